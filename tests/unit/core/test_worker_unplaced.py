"""What a worker does with an attempt that has no place yet."""

from tests.unit.core.samples import capacity, job
from tests.unit.core.worker_bench import WorkerBench, begun, said

from lineshaft_protocol.jobs import Environment, Payload
from lineshaft_protocol.outcomes import Failure
from lineshaft_protocol.resources import Resources
from lineshaft_protocol.versions import FEATURES
from lineshaft_protocol.worker_messages import (
    Assign,
    Ended,
    Held,
    Place,
    Prepared,
    Register,
    Registered,
    Returned,
    SetPause,
    Settled,
    Stop,
)
from lineshaft_worker.core.io import (
    AttemptKey,
    CancelPreparing,
    Effect,
    EnvironmentFailed,
    EnvironmentReady,
    ForgetAttempt,
    PrepareEnvironment,
    StartAttempt,
)

A = AttemptKey("a", 1)
NEW = Environment(requirements=Payload.of_bytes(b"torch"))
TOLD = Prepared(job_id="a", attempt=1)


def _assign(**wanted: object) -> Assign:
    spec = job("a", environment=NEW, **wanted)
    return Assign(job=spec, attempt=1, epoch=1, is_unplaced=True)


def _welcome(worker: WorkerBench, features: tuple[str, ...] = FEATURES) -> list[Effect]:
    if worker.session is None:
        worker.connected()
    return worker.receive(
        Registered(
            worker_id="w1",
            protocol=1,
            epoch=1,
            features=features,
            heartbeat_s=5.0,
            silence_s=20.0,
            lease_s=450.0,
        )
    )


def _preparing(**wanted: object) -> WorkerBench:
    worker = WorkerBench(capacity(gpus=1))
    _welcome(worker)
    effects = worker.receive(_assign(**wanted))
    assert [type(effect) for effect in effects] == [PrepareEnvironment]
    return worker


def _prepared(**wanted: object) -> WorkerBench:
    worker = _preparing(**wanted)
    assert said(worker.handle(EnvironmentReady(A))) == [TOLD]
    return worker


def test_it_begins_when_it_has_its_place_with_the_devices_named_then() -> None:
    worker = _prepared(resources=Resources(gpus=1))

    effects = worker.receive(Place(job_id="a", attempt=1, devices=("g0",)))

    assert begun(effects) == [("a", 0)]
    assert [e.assign.devices for e in effects if isinstance(e, StartAttempt)] == [("g0",)]


def test_meanwhile_another_has_the_only_slot() -> None:
    worker = _prepared()

    other = worker.runs("b")
    placed = worker.receive(Place(job_id="a", attempt=1))

    assert begun(placed) == []
    assert begun(worker.ends(other)) == [("a", 0)]


def test_a_place_that_is_told_twice_is_one() -> None:
    worker = _prepared()
    worker.receive(Place(job_id="a", attempt=1))

    assert worker.receive(Place(job_id="a", attempt=1)) == []


def test_on_a_new_connection_it_says_what_has_no_place_and_asks_again() -> None:
    worker = _prepared()
    worker.cut()

    register = said(worker.connected())[0]

    assert isinstance(register, Register)
    assert register.held == (Held(job_id="a", attempt=1, is_unplaced=True),)
    assert TOLD in said(_welcome(worker))


def test_what_was_prepared_while_nobody_listened_is_told_later() -> None:
    worker = _preparing()
    worker.cut()

    assert said(worker.handle(EnvironmentReady(A))) == []
    worker.connected()
    assert TOLD in said(_welcome(worker))


def test_a_coordinator_that_gives_no_places_gets_the_attempt_back() -> None:
    worker = _preparing()
    worker.cut()
    worker.connected()
    _welcome(worker, tuple(each for each in FEATURES if each != "unplaced"))

    told = said(worker.handle(EnvironmentReady(A)))

    reason = "its coordinator gives no places; it is too old"
    assert told == [Returned(job_id="a", attempt=1, reason=reason)]


def test_what_was_prepared_ends_at_once_when_it_is_cancelled() -> None:
    worker = _prepared()

    (told,) = said(worker.receive(Stop(job_id="a", attempt=1)))

    assert isinstance(told, Ended)
    assert told.result.status == "stopped"
    assert begun(worker.receive(Place(job_id="a", attempt=1))) == []


def test_what_was_prepared_is_handed_back_for_a_pause() -> None:
    worker = _prepared()

    told = said(worker.receive(SetPause(job_id="a", attempt=1, mode="checkpoint")))

    assert told == [Returned(job_id="a", attempt=1, reason="it is asked to pause")]


def test_a_build_ends_with_its_attempt() -> None:
    worker = _preparing()

    effects = worker.receive(Settled(job_id="a", attempt=1))

    assert effects == [CancelPreparing(A), ForgetAttempt(A)]


def test_an_environment_that_cannot_be_had_takes_no_place() -> None:
    worker = _preparing()
    failure = Failure(cause="environment", message="no such package")

    (told,) = said(worker.handle(EnvironmentFailed(A, failure)))

    assert isinstance(told, Ended)
    assert told.result.failure == failure
    assert begun(worker.receive(Place(job_id="a", attempt=1))) == []


def test_a_prepare_timeout_counts_until_it_begins() -> None:
    worker = _prepared(timeouts={"prepare_s": 10.0})

    told = [message for message in said(worker.after(11.0)) if isinstance(message, Ended)]

    assert [message.result.failure.cause for message in told if message.result.failure] == [
        "prepare_timeout"
    ]
