"""Run records of jobs: a process beside the coordinator writes them from what is committed."""
