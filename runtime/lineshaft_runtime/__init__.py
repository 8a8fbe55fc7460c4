"""What every Lineshaft process shares: the pump, sockets, settings, logs."""
