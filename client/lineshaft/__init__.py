"""Run Python work on your own machines, and trust it."""
