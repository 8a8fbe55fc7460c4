"""Plans in runners; their remote parts become child jobs of the daemon's."""

import json
from pathlib import Path

import pytest
from tests.integration.execution.execution_bench import ExecutionBench, until

from lineshaft_protocol.seed.plans import Execute, Parallel, Remote, Sequence, Tag
from lineshaft_runtime.packing import pack_bytes
from lineshaft_runtime.plans.work import plan_payload, read_outcome
from lineshaft_worker.execution.reports import ChildRequested, Failure, ResultFile, Succeeded
"""
"""
