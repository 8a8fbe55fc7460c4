"""Stands in for one worker of the seed plan protocol: what its clients send becomes our jobs."""
