"""What provenance.yaml of a job says that it was made of."""

import base64
import hashlib
from typing import Any

import pytest

from lineshaft_coordinator.recorder.source import origin_of

FILES = b"train.py and what it reads"
SMALL = {"inline": base64.b64encode(FILES).decode()}
HASH = hashlib.sha256(FILES).hexdigest()


@pytest.mark.parametrize(
    ("kind", "payload", "told"),
    [
        ("pipeline", {"blob": "b" * 64}, "b" * 64),
        ("pipeline", SMALL, HASH),
        ("function", {"blob": "b" * 64}, "b" * 64),
        ("function", SMALL, None),
        ("pipeline", None, None),
    ],
)
def test_s004_18_provenance_has_the_hash_of_what_was_submitted(
    kind: str, payload: dict[str, str] | None, told: str | None
) -> None:
    job: dict[str, Any] = {"job_id": "j1", "kind": kind, "payload": payload}

    origin = origin_of(job, "w1", "local")

    assert origin["lineshaft"].get("payload") == told
