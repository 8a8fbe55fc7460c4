"""Training runs as seed 000 has them: its REST interface, its stream, its words."""
