"""The process that runs user code: started by the daemon, one attempt at a time."""
