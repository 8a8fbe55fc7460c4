"""Python environments of jobs: built once for each content, kept, shared and pruned."""
