"""The worker without its machine: events in, effects out."""
