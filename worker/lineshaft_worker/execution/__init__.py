"""Processes of the worker daemon: starts runners, hears how attempts end, leaves nothing behind."""
