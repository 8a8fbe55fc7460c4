"""What crosses a process boundary: messages, values, plans, frames, versions. Pure."""
