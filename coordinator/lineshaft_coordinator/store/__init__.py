"""Durable state: journal records, query rows and events of jobs, in one place on disk."""
