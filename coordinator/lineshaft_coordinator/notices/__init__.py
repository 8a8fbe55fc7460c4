"""Tells consumers of models, over Redis, that a job has saved a checkpoint."""
