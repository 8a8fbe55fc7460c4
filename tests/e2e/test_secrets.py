"""F29: a job's secret is in its environment and nowhere else, whatever the job prints."""

import contextlib
import secrets as dice
import subprocess
from pathlib import Path

import psutil
import pytest
from tests.e2e.farm import Farm, until
from tests.e2e.nursery import run_forked

import lineshaft
from lineshaft import job_events

LEAK = """
import base64, os, subprocess, sys, time
from pathlib import Path
from lineshaft import run

CHILD = 'printf "child $TOKEN cut ${TOKEN%????}"; sleep 0.1; printf "${TOKEN#${TOKEN%????}}\\\\n"'

def main(signal, end="raise"):
    token = os.environ["TOKEN"]
    print("out", token, flush=True)
    print("err", base64.b64encode(token.encode()).decode(), file=sys.stderr, flush=True)
    subprocess.run(["sh", "-c", CHILD])
    run.log({token: 1.0, "text": token})
    run.progress(1, 2, phase=token)
    Path(signal).touch()
    while not Path(signal + ".go").exists():
        time.sleep(0.01)
    if end == "crash":
        sys.stderr.write(f"dying with {token}")
        sys.stderr.flush()
        os.abort()
    raise ValueError(f"bad token {token}")
"""


def secret(pair: Farm, *words: str, said: str = "") -> subprocess.CompletedProcess[str]:
    """Run `lineshaft secret`."""
    command = ["-m", "lineshaft", "secret", *words, "--url", pair.url]
    return run_forked(command, pair.environ, said=said)


@pytest.fixture
def canary(pair: Farm) -> str:
    """A secret that the coordinator keeps under the name CANARY."""
    value = f"canary-{dice.token_hex(16)}"
    done = secret(pair, "set", "CANARY", said=f"{value}\n")
    assert done.returncode == 0, done.stderr
    assert value not in done.stdout + done.stderr
    return value


def files_with(folder: Path, text: str) -> list[Path]:
    found: list[Path] = []
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            if path.is_file() and text.encode() in path.read_bytes():
                found.append(path)
    return found


def processes_with(text: str, file: str) -> list[str]:
    found: list[str] = []
    for process in psutil.process_iter(["cmdline"]):
        with contextlib.suppress(OSError):
            if text.encode() in Path(f"/proc/{process.pid}/{file}").read_bytes():
                found.append(" ".join(process.info["cmdline"] or []))
    return found


@pytest.mark.parametrize("end", ["raise", "crash"])
def test_a_secret_is_nowhere_but_in_the_environment_of_its_job(
    pair: Farm, canary: str, tmp_path: Path, end: str
) -> None:
    (tmp_path / "job").mkdir()
    script = tmp_path / "job" / "leak.py"
    script.write_text(LEAK)
    signal = tmp_path / "signal"
    with pair.client() as client:
        params = {"signal": str(signal), "end": end}
        scoped = client.options(secrets={"TOKEN": "CANARY"})
        job = scoped.run("leak.py:main", files=[script], params=params)
        until(signal.exists, what="the job runs")

        while_running = files_with(pair.folder, canary)
        holders = processes_with(canary, "environ")
        arguments = processes_with(canary, "cmdline")
        (tmp_path / "signal.go").touch()
        with pytest.raises(Exception) as caught:  # noqa: PT011 - which one depends on the end
            job.result(60)
        events = list(job.events())
        story = str(client.story(job.id)) + str(client.why(job.id)) + str(client.jobs())

    assert while_running == []
    assert files_with(pair.folder, canary) == []
    assert arguments == []
    assert holders
    assert all("shim.py" in each or "runner" in each or "redaction" in each for each in holders)
    error = caught.value
    told = f"{error!r} {error} {getattr(error, 'last_lines', '')} {events} {story}"
    assert canary not in told
    logs = [event for event in events if isinstance(event, job_events.Log)]
    output = "".join(event.text for event in logs if event.stream == "stdout")
    assert "out ***\n" in output
    assert "err ***" in "".join(event.text for event in logs if event.stream == "stderr")
    assert "child *** cut ***\n" in output
    if end == "raise":
        assert "bad token ***" in told
    else:
        assert "dying with ***" in told


def test_a_runner_with_a_secret_does_not_serve_others(pair: Farm, canary: str) -> None:
    def peek() -> str | None:
        import os

        return os.environ.get("CANARY")

    with pair.client() as client:
        tagged = client.options(secrets=["CANARY"])
        assert [tagged.submit(peek).result(60) for _ in range(3)] == [canary] * 3
        assert [client.submit(peek).result(60) for _ in range(5)] == [None] * 5


def test_a_secret_that_is_not_kept_is_refused_with_the_way_to_keep_it(pair: Farm) -> None:
    with pair.client() as client:
        future = client.options(secrets=["NOT_KEPT"]).submit(print)
        with pytest.raises(lineshaft.LineshaftError, match="lineshaft secret set NOT_KEPT"):
            future.result(30)
        with pytest.raises(lineshaft.errors.InvalidJobError, match="secrets"):
            client.options(secrets=["no-name"]).submit(print)


def test_a_secret_that_is_removed_before_the_start_is_named_with_the_way_out(
    pair: Farm, canary: str, tmp_path: Path
) -> None:
    def hold(gate: str) -> None:
        import os
        import signal

        while not os.path.exists(gate):
            signal.sigtimedwait((), 0.02)

    gate = tmp_path / "gate"
    with pair.client() as client:
        first = client.submit(hold, str(gate))
        later = client.options(secrets=["CANARY"], after=[first]).submit(print)
        until(lambda: later.id in {job["job_id"] for job in client.jobs()}, what="it is accepted")
        secret(pair, "remove", "CANARY").check_returncode()
        gate.touch()

        with pytest.raises(lineshaft.errors.RunnerStartError, match="lineshaft secret set CANARY"):
            later.result(30)


def test_names_are_listed_and_secrets_removed(pair: Farm, canary: str) -> None:
    listed = secret(pair, "list")
    refused = secret(pair, "set", "TOO_SHORT", said="short")
    removed = secret(pair, "remove", "CANARY")
    again = secret(pair, "remove", "CANARY")

    assert listed.stdout.startswith("CANARY  set 20")
    assert canary not in listed.stdout
    assert (refused.returncode, "at least 6 characters" in refused.stderr) == (2, True)
    assert removed.returncode == 0
    assert again.returncode != 0
    assert "no secret CANARY is kept" in again.stderr
