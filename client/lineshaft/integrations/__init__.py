"""Reporting from inside frameworks; each module imports only the framework of its name."""
