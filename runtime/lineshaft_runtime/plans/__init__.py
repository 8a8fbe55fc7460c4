"""Running a plan: which node gets which input, and how its filter is called."""
