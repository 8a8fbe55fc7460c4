"""What a monitoring system may ask about the coordinator."""
