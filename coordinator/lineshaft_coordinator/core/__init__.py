"""The coordinator without its machine: events in, effects out."""
