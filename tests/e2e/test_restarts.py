"""Nothing that was accepted is lost: coordinator and workers killed in mid-work."""

import contextlib
import signal
import threading
from pathlib import Path

import psutil
import pytest
from tests.e2e.farm import Farm, farm, until


def work(number: int, file: str) -> int:
    import os
    import time

    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{number}\n".encode())
    os.close(descriptor)
    deadline = time.monotonic() + 0.02
    while time.monotonic() < deadline:
        pass
    return number * number


def test_a_coordinator_killed_twice_in_mid_run_gives_200_of_200_results(
    empty_farm: Farm, tmp_path: Path
) -> None:
    made = empty_farm
    made.start_worker("w1", "--slots", "2")
    made.start_worker("w2", "--slots", "2")
    with made.client() as client:
        made.until_ready(client)
        futures = [client.submit(work, n, str(tmp_path / "journal")) for n in range(200)]
        for share in (40, 100):
            until(lambda share=share: sum(f.done() for f in futures) >= share, what="half way")
            assert made.coordinator is not None
            made.coordinator.kill()
            made.start_coordinator()

        results = [future.result(60) for future in futures]

    assert results == [n * n for n in range(200)]


def test_a_worker_daemon_killed_in_mid_job_takes_the_same_process_over(
    empty_farm: Farm, tmp_path: Path
) -> None:
    made = empty_farm
    gate, pid_file = tmp_path / "gate", tmp_path / "pid"

    def wait_for(gate: str, pid_file: str) -> int:
        import os
        import signal

        with open(pid_file, "w") as file:
            file.write(str(os.getpid()))
        while not os.path.exists(gate):
            signal.sigtimedwait((), 0.02)
        return os.getpid()

    worker = made.start_worker("w1", "--slots", "1")
    with made.client() as client:
        made.until_ready(client)
        future = client.submit(wait_for, str(gate), str(pid_file), lost_after=60.0)
        until(lambda: pid_file.exists() and pid_file.read_text(), what="it runs")
        worker.kill()
        made.start_worker("w1", "--slots", "1")
        until(lambda: Farm.here(client).get("w1"), what="the new daemon is there")
        gate.touch()

        assert future.result(60) == int(pid_file.read_text())
        (job,) = [j for j in client.jobs() if j["kind"] == "function"]  # type: ignore[union-attr,index,call-overload]
        assert job["attempt"] == 1  # type: ignore[index,call-overload]


def test_a_job_that_ends_while_its_daemon_is_dead_keeps_its_result(
    empty_farm: Farm, tmp_path: Path
) -> None:
    made = empty_farm
    script = tmp_path / "train.py"
    gate, over = tmp_path / "gate", tmp_path / "over"
    script.write_text(
        "import os, signal, sys\n"
        "from lineshaft import run\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
        f"while not os.path.exists({str(gate)!r}): signal.sigtimedwait((), 0.02)\n"
        "print('made while alone', flush=True)\n"
        "run.log({'loss': 0.25}, step=1)\n"
        "run.result(42)\n"
        f"open({str(over)!r}, 'w').close()\n"
    )
    worker = made.start_worker("w1", "--slots", "1")
    with made.client() as client:
        made.until_ready(client)
        job = client.run("train.py", files=[script])
        until(lambda: (tmp_path / "pid").exists(), what="it runs")
        worker.kill()
        gate.touch()
        until(over.exists, what="it ended alone")
        made.start_worker("w1", "--slots", "1")

        assert job.result(60) == 42
        assert "made while alone" in "".join(str(text) for text in job.logs())
        assert any(getattr(event, "metrics", None) == {"loss": 0.25} for event in job.events())


def test_work_of_a_worker_that_died_with_its_machine_runs_elsewhere(
    empty_farm: Farm, tmp_path: Path
) -> None:
    made = empty_farm
    worker = made.start_worker("w1", "--slots", "2")
    with made.client() as client:
        made.until_ready(client)
        futures = [client.submit(work, n, str(tmp_path / "journal")) for n in range(100)]
        until(lambda: sum(f.done() for f in futures) >= 20, what="some are done")
        made.start_worker("w2", "--slots", "2")
        made.until_ready(client, "w2")
        worker.kill()
        for process in made.stray():
            with contextlib.suppress(psutil.Error):  # it may have ended by itself
                if "/w1/" in " ".join(process.cmdline()):
                    process.kill()

        assert [future.result(60) for future in futures] == [n * n for n in range(100)]


def test_a_client_that_died_loses_nothing(empty_farm: Farm) -> None:
    made = empty_farm
    made.start_worker("w1", "--slots", "1")
    with made.client() as client:
        made.until_ready(client)
        job = client.run("m.py:f", files={"m.py": "def f():\n    return 'kept'\n"})
        job_id = job.id
        until(lambda: job.status in ("queued", "assigned", "running", "succeeded"))

    with made.client() as another:
        assert another.job(job_id).result(30) == "kept"


def test_a_stopped_worker_that_wakes_up_is_fenced(tmp_path: Path) -> None:
    timings = ("heartbeat_s=0.3", "suspect_s=0.8", "silence_s=1.2", "lost_after_brief_s=0.2")
    with farm(tmp_path, *timings) as made:
        first = made.start_worker("w1", "--slots", "1")
        gate = tmp_path / "gate"

        def wait_for(gate: str) -> int:
            import os
            import signal

            while not os.path.exists(gate):
                signal.sigtimedwait((), 0.02)
            return os.getpid()

        with made.client() as client:
            made.until_ready(client)
            future = client.submit(wait_for, str(gate))
            until(lambda: future.running() or client.jobs(status="running"), what="it runs")
            first.popen.send_signal(signal.SIGSTOP)
            made.start_worker("w2", "--slots", "1")
            until(
                lambda: any(
                    j["worker_id"] == "w2" and j["status"] == "running"
                    for j in client.jobs()  # type: ignore[union-attr]
                ),
                what="it started elsewhere",
            )
            first.popen.send_signal(signal.SIGCONT)
            until(lambda: Farm.here(client).get("w1"), what="it is back")
            until(lambda: not Farm.here(client)["w1"]["jobs"], what="it was told to forget")
            gate.touch()

            future.result(30)
            story = client.story(client.jobs()[0]["job_id"])  # type: ignore[index,call-overload,arg-type]
            finished = [r for r in story if r["type"] == "JobFinished"]  # type: ignore[union-attr,index,call-overload]
            assert len(finished) == 1
            assert finished[0]["outcome"]["worker_id"] == "w2"  # type: ignore[index,call-overload]


@pytest.mark.parametrize("who", ["worker", "coordinator"])
def test_sigterm_stops_in_order_and_leaves_nothing(empty_farm: Farm, who: str) -> None:
    made = empty_farm
    worker = made.start_worker("w1", "--slots", "1")
    with made.client() as client:
        made.until_ready(client)
        assert client.submit(pow, 2, 3).result(30) == 8
        assert made.coordinator is not None
        if who == "worker":
            assert worker.terminate() == 0
            until(lambda: not made.stray(), what="no process is left")
            sockets = [p for p in made.home.rglob("*") if p.is_socket()]
            assert not sockets
        else:
            assert made.coordinator.terminate() == 0
            assert worker.popen.poll() is None


def test_sigterm_lets_a_worker_finish_what_runs_and_hand_back_the_rest(
    empty_farm: Farm, tmp_path: Path
) -> None:
    made = empty_farm
    worker = made.start_worker("w1", "--slots", "1")
    with made.client() as client:
        made.until_ready(client)
        futures = [client.submit(work, n, str(tmp_path / "journal")) for n in range(60)]
        until(lambda: sum(f.done() for f in futures) >= 5, what="it works")
        ended: list[int] = []
        stop = threading.Thread(target=lambda: ended.append(worker.terminate()))
        stop.start()
        made.start_worker("w2", "--slots", "1")

        assert [future.result(60) for future in futures] == [n * n for n in range(60)]
        stop.join(30)
        assert ended == [0]
    counts = sorted((tmp_path / "journal").read_text().split(), key=int)
    assert counts == sorted(set(counts), key=int), "nothing ran twice"
