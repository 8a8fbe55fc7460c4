"""The tables of what programs report of runs that no job of ours runs."""

from typing import Final

FILE: Final = "tracking.sqlite"
FOLDER: Final = "training_runs"
"""Of logs and model files."""

# Runs are listed by who made them, newest first; metrics of a run by when they came.
STATEMENTS: Final = (
    "CREATE TABLE runs (id TEXT NOT NULL PRIMARY KEY, user_id TEXT NOT NULL, name TEXT NOT NULL,"
    " model_type TEXT NOT NULL, model_version_id TEXT, dataset_id TEXT, status TEXT NOT NULL,"
    " config TEXT NOT NULL, latest_metrics TEXT, started_at REAL, completed_at REAL,"
    " created_at REAL NOT NULL)",
    "CREATE INDEX runs_created ON runs (created_at, id)",
    "CREATE INDEX runs_user ON runs (user_id, created_at, id)",
    "CREATE TABLE metrics (run_id TEXT NOT NULL, seq INTEGER NOT NULL, at REAL NOT NULL,"
    " body TEXT NOT NULL, PRIMARY KEY (run_id, seq)) WITHOUT ROWID",
    "CREATE TABLE models (id TEXT NOT NULL PRIMARY KEY, user_id TEXT NOT NULL, name TEXT NOT NULL,"
    " description TEXT, model_type TEXT NOT NULL, created_at REAL NOT NULL,"
    " updated_at REAL NOT NULL)",
    "CREATE TABLE versions (id TEXT NOT NULL PRIMARY KEY, model_id TEXT NOT NULL,"
    " version INTEGER NOT NULL, file_path TEXT NOT NULL, file_size INTEGER NOT NULL,"
    " sha256 TEXT NOT NULL, metrics TEXT, training_run_id TEXT, created_at REAL NOT NULL)",
    "CREATE UNIQUE INDEX versions_of ON versions (model_id, version)",
    "CREATE TABLE notebook_checkpoints (id TEXT NOT NULL PRIMARY KEY, notebook_id TEXT NOT NULL,"
    " user_id TEXT NOT NULL, epoch INTEGER NOT NULL, step INTEGER NOT NULL, metrics TEXT NOT NULL,"
    " created_at REAL NOT NULL)",
    "CREATE INDEX checkpoints_of ON notebook_checkpoints (notebook_id, created_at)",
)
SCHEMA_VERSION: Final = 1
