"""The training server that seed 001's clients know: REST, a live feed and files, over jobs."""
