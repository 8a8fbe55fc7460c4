"""The dashboard: a page of static files that asks the REST API."""
