"""The client without its machine: events in, effects out."""
