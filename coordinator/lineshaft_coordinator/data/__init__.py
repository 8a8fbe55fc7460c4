"""The data plane of the coordinator: blobs on disk, streams in flight."""
