"""The worker process: connection, processes and files around a WorkerCore."""
