"""The worker daemon: offers a machine and guards its devices."""
