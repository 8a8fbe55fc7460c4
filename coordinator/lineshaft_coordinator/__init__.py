"""The coordinator daemon: accepts, places and keeps work."""
