"""What is made without a check is what a check would have made, for who reads it as well."""

import base64

import pytest
from pydantic import Field

from lineshaft_coordinator.core.records import RECORD, AttemptStarted, JobFinished, JobSubmitted
from lineshaft_coordinator.core.records import encode as encode_record
from lineshaft_protocol.client_messages import Accepted, Finished, Submit
from lineshaft_protocol.codec import Codec
from lineshaft_protocol.ids import JobId
from lineshaft_protocol.jobs import JobSpec, Payload
from lineshaft_protocol.outcomes import Outcome
from lineshaft_protocol.wire import Wire, unchecked
from lineshaft_protocol.worker_messages import Assign, Settled

SPEC = JobSpec(
    job_id="j1", kind="function", payload=Payload.of_bytes(b"data"), retries=2, tags=("night",)
)
OUTCOME = Outcome(job_id="j1", status="succeeded", attempt=1, worker_id="w1", run_s=2.5)
MESSAGES: list[tuple[type[Wire], dict[str, object]]] = [
    (Submit, {"job": SPEC, "is_fresh": True}),
    (Accepted, {"job_id": "j1"}),
    (Finished, {"outcome": OUTCOME, "events": None}),
    (Settled, {"job_id": "j1", "attempt": 1}),
    (Assign, {"job": SPEC, "attempt": 1, "epoch": 3, "expected_s": 0.5, "devices": ("g0",)}),
    (Outcome, {"job_id": "j1", "status": "succeeded", "attempt": 1, "run_s": 2.5}),
    (JobSubmitted, {"job_id": "j1", "client_id": "c", "job": SPEC, "owner": "a1"}),
    (AttemptStarted, {"job_id": "j1", "attempt": 1, "worker_id": "w1", "epoch": 3}),
    (JobFinished, {"job_id": "j1", "outcome": OUTCOME}),
]


@pytest.mark.parametrize(
    ("model", "fields"), MESSAGES, ids=[model.__name__ for model, _ in MESSAGES]
)
def test_a_message_is_the_same_with_and_without_a_check(
    model: type[Wire], fields: dict[str, object]
) -> None:
    made, checked = unchecked(model)(**fields), model(**fields)

    assert made == checked
    assert Codec.encode(made) == Codec.encode(checked)
    changed = made.model_copy(update={"attempt": 7, "job_id": "other"})
    assert made == checked
    assert changed != checked or "job_id" not in type(made).model_fields


def test_a_record_that_was_not_checked_is_read_again_as_it_was() -> None:
    made = unchecked(JobSubmitted)(job_id="j1", client_id="c", job=SPEC, owner=None)

    assert RECORD.validate_json(encode_record(made)) == made
    assert b"owner" not in encode_record(made)


def test_a_message_with_a_default_that_is_made_anew_is_not_made_without_a_check() -> None:
    class Noted(Wire):
        lines: list[str] = Field(default_factory=list)

    with pytest.raises(AssertionError, match="made anew"):
        unchecked(Noted)


def test_a_job_like_another_differs_in_its_id_and_payload_alone() -> None:
    payload = Payload.of_bytes(b"other")

    like = SPEC.like(JobId("j2"), payload)

    assert like == SPEC.model_copy(update={"job_id": "j2", "payload": payload})
    assert JobSpec.model_validate_json(like.model_dump_json(exclude_none=True)) == like
    assert (SPEC.job_id, SPEC.payload) == ("j1", Payload.of_bytes(b"data"))


def test_bytes_that_a_message_carries_are_as_if_they_had_been_checked() -> None:
    inline = base64.b64encode(b"data").decode()

    assert Payload.of_bytes(b"data") == Payload(inline=inline)
    assert Payload.of_bytes(b"data").inline_bytes() == b"data"
