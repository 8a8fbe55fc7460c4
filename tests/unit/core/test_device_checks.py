"""An ended attempt's GPUs are its own until their memory was seen to be free."""

from tests.unit.core.samples import capacity
from tests.unit.core.worker_bench import WorkerBench

from lineshaft_protocol.resources import Capacity, Gpu, Resources
from lineshaft_protocol.worker_messages import Ended, HealDevice, Heartbeat, Settled
from lineshaft_worker.core.io import (
    AttemptKey,
    CheckDevices,
    DevicesChecked,
    Effect,
    ForgetAttempt,
    LookAgain,
    Send,
    StartAttempt,
)

ONE_GPU = Resources(gpus=1)


def offers(fault: str | None = None) -> Capacity:
    gpu = Gpu(uuid="g1", name="Standin", memory_bytes=8 << 30, fault=fault)
    return capacity().model_copy(update={"slots": 4, "gpus": (gpu,)})


def bench() -> tuple[WorkerBench, AttemptKey]:
    worker = WorkerBench(offers())
    worker.registered()
    return worker, worker.runs("j1", devices=("g1",), resources=ONE_GPU)


def said(effects: list[Effect]) -> list[object]:
    return [effect.message for effect in effects if isinstance(effect, Send)]


def test_an_end_is_told_when_its_gpus_were_looked_at() -> None:
    worker, key = bench()

    over = worker.ends(key, "stopped", gone_pid=17)
    checked = worker.handle(DevicesChecked(key, offers()))

    assert over == [CheckDevices(key, ("g1",), 17)]
    assert [type(message) for message in said(checked)] == [Ended]


def test_the_next_job_starts_on_a_gpu_only_when_it_was_looked_at() -> None:
    worker, key = bench()
    worker.ends(key, gone_pid=17)

    waiting = worker.assign("j2", devices=("g1",), resources=ONE_GPU)
    checked = worker.handle(DevicesChecked(key, offers()))

    assert not any(isinstance(effect, StartAttempt) for effect in waiting)
    assert any(isinstance(e, StartAttempt) and e.key.job_id == "j2" for e in checked)


def test_a_gpu_that_kept_its_memory_is_out_of_use_before_the_end_is_told() -> None:
    worker, key = bench()
    worker.ends(key, "stopped", gone_pid=17)

    messages = said(worker.handle(DevicesChecked(key, offers("its memory was not given back"))))

    beat, end = messages
    assert isinstance(beat, Heartbeat)
    assert beat.capacity == offers("its memory was not given back")
    assert isinstance(end, Ended)


def test_an_end_whose_runner_lives_on_is_told_at_once() -> None:
    worker, key = bench()

    assert [type(message) for message in said(worker.ends(key))] == [Ended]


def test_what_was_settled_meanwhile_is_forgotten_after_the_look() -> None:
    worker, key = bench()
    worker.ends(key, "stopped", gone_pid=17)

    settled = worker.receive(Settled(job_id="j1", attempt=1))
    checked = worker.handle(DevicesChecked(key, offers()))

    assert settled == []
    assert checked == [ForgetAttempt(key)]


def test_an_operator_has_a_gpu_looked_at_again() -> None:
    worker, _ = bench()

    effects = worker.receive(HealDevice(gpu="g1"))

    assert effects == [LookAgain("g1")]
