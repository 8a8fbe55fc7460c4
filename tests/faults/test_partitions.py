"""F5 and F6: the network between worker and coordinator is cut, without a word to either."""

import hashlib
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from tests.e2e.farm import Farm, Process, select_pause, until
from tests.faults.machines import ends_of
from tests.faults.networks import Cable, cable
from tests.faults.scale import rounds, tell

from lineshaft import Client
from lineshaft.blocking_job import Job
from lineshaft_coordinator.server.admission import Tokens

CUTS = rounds(1, 60)
SILENCE_S = 1.2
LOST_AFTER_S = 7.0
TIMINGS = ("heartbeat_s=0.4", "suspect_s=1", f"silence_s={SILENCE_S}", "lease_s=6", "recovery_s=1")

HOLD = """
import os, signal
from lineshaft import run

with open(run.params["pids"], "a") as file:
    file.write(f"{os.getpid()}\\n")
while not os.path.exists(run.params["gate"]):
    signal.sigtimedwait((), 0.02)
run.result(os.getpid())
"""


class Site:
    """A coordinator here, a worker `w1` behind the cable, a worker `w2` beside it."""

    def __init__(self, made: Farm, wire: Cable) -> None:
        self.farm, self.wire = made, wire
        self.coordinator = self._start_coordinator()
        local = (made.home / "token").read_text().strip()
        pem = (made.folder / "data" / "tls" / "certificate.pem").read_text()
        pin = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
        _, secret = Tokens(made.folder / "data", local).create("admin")
        self.token = f"ls1.{pin}.{secret}"
        self.worker = self._start_worker("w1", *wire.prefix)

    @property
    def url(self) -> str:
        return f"wss://{self.wire.here}:{self.farm.port}"

    def client(self) -> Client:
        return Client(self.url, token=self.token)

    def _start_coordinator(self) -> Process:
        made = self.farm
        port_file = made.folder / "port"
        command = ["-m", "lineshaft_coordinator", "--listen", f"{self.wire.here}:0"]
        command += ["--tls-self-signed", "--data", str(made.folder / "data")]
        command += ["--port-file", str(port_file)]
        for timing in TIMINGS:
            command += ["--set", timing]
        process = made.coordinator = made.start("coordinator", *command)
        until(lambda: port_file.exists() or process.popen.poll() is not None, what="it listens")
        assert process.popen.poll() is None, process.said()
        made.port = int(port_file.read_text())
        return process

    def _start_worker(self, name: str, *prefix: str) -> Process:
        log = self.farm.folder / f"{name}.log"
        command = [*prefix, sys.executable, "-m", "lineshaft_worker", "--name", name]
        command += ["--slots", "1", "--grace", "1"]
        environ = {"LINESHAFT_URL": self.url, "LINESHAFT_TOKEN": self.token}
        with log.open("ab") as file:
            popen = subprocess.Popen(
                command,
                env=self.farm.environ | environ,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        process = Process(name, popen, log)
        self.farm.workers[name] = process
        self.farm._started.append(process)
        return process

    def add_neighbour(self) -> None:
        self._start_worker("w2")

    def hold(self, client: Client, folder: Path, lost_after: float, **options: Any) -> Job[object]:
        folder.mkdir()
        params = {"pids": str(folder / "pids"), "gate": str(folder / "gate")}
        job = client.run(
            "hold.py", files={"hold.py": HOLD}, params=params, lost_after=lost_after, **options
        )
        until(lambda: pids_in(folder / "pids"), what="it runs")
        return job


@contextmanager
def site_of(folder: Path) -> Iterator[Site]:
    with cable() as wire:
        folder.mkdir()
        made = Farm(folder)
        try:
            yield Site(made, wire)
        finally:
            made.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site_of(tmp_path_factory.mktemp("site") / "farm") as made:
        yield made


def pids_in(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().splitlines()] if path.exists() else []


def is_here(client: Client, name: str) -> bool:
    return name in Farm.here(client)


def pause(seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        select_pause()


def found_by_both(site: Site, client: Client, lose: Callable[[], None]) -> float:
    """Lose packets until both sides have noticed; returns how long that took, in seconds."""
    until(lambda: is_here(client, "w1"), what="the worker is there")
    said_before = site.worker.said().count("the coordinator was silent")
    began = time.monotonic()
    lose()
    try:
        until(lambda: not is_here(client, "w1"), what="the coordinator noticed")
        coordinator_s = time.monotonic() - began
        until(
            lambda: site.worker.said().count("the coordinator was silent") > said_before,
            what="the worker noticed",
        )
        worker_s = time.monotonic() - began
    finally:
        site.wire.mend()
    print(f"coordinator {coordinator_s:.2f} s, worker {worker_s:.2f} s")
    # A heartbeat may just have been heard; a shared machine may be a second late.
    assert coordinator_s < SILENCE_S + 1.0
    assert worker_s < SILENCE_S + 2.0
    until(lambda: is_here(client, "w1"), what="it is back")
    return max(coordinator_s, worker_s)


def test_a_cut_shorter_than_lost_after_changes_nothing(site: Site, tmp_path: Path) -> None:
    with site.client() as client:
        until(lambda: is_here(client, "w1"), what="the worker is there")
        for number in range(CUTS):
            job = site.hold(client, tmp_path / f"job-{number}", lost_after=120.0)
            # One is over before anybody can notice; the other ends the connection on both sides.
            for length in (0.3, SILENCE_S + 0.6):
                site.wire.cut()
                pause(length)
                site.wire.mend()
                until(lambda: is_here(client, "w1"), what="it is back")
            (tmp_path / f"job-{number}" / "gate").touch()

            assert [job.result(60)] == pids_in(tmp_path / f"job-{number}" / "pids")
            story = cast("list[dict[str, Any]]", job.story())
            assert ends_of(story) == ["JobSubmitted", "AttemptStarted", "JobFinished"]
    tell("F5", "cut shorter than `lost_after`", 2 * CUTS, "same process, no new attempt")


def test_a_dead_connection_is_found_on_both_sides_within_silence(site: Site) -> None:
    with site.client() as client:
        found = [found_by_both(site, client, site.wire.cut) for _ in range(CUTS)]
    seen = f"both sides found it in {max(found):.1f} s, with `silence_s` {SILENCE_S:g}"
    tell("F6", "half-open connection", CUTS, seen)


@pytest.mark.parametrize("way", ["outbound", "inbound"])
def test_loss_in_one_direction_is_found_on_both_sides_within_silence(
    site: Site, tmp_path: Path, way: str
) -> None:
    lose = site.wire.lose_outbound if way == "outbound" else site.wire.lose_inbound
    with site.client() as client:
        job = site.hold(client, tmp_path / "job", lost_after=120.0)
        found = [found_by_both(site, client, lose) for _ in range(CUTS)]
        (tmp_path / "job" / "gate").touch()

        assert [job.result(60)] == pids_in(tmp_path / "job" / "pids"), "the same process went on"
    seen = f"both sides found it in {max(found):.1f} s, with `silence_s` {SILENCE_S:g}"
    tell("F6", f"all lost in one direction: {way} of the coordinator", CUTS, seen)


def test_a_connection_that_a_nat_forgot_is_replaced_within_silence(
    site: Site, tmp_path: Path
) -> None:
    took: list[float] = []
    with site.client() as client:
        job = site.hold(client, tmp_path / "job", lost_after=120.0)
        for _ in range(CUTS):
            until(lambda: is_here(client, "w1"), what="the worker is there")
            # What an earlier cut broke may still be there for a moment.
            until(lambda: len(site.wire.ports()) == 1, what="it has one connection")
            (old,) = site.wire.ports()
            began = time.monotonic()
            with ExitStack() as until_mended:
                try:
                    until_mended.enter_context(site.wire.forgotten(old))
                except subprocess.CalledProcessError as error:
                    pytest.skip(f"this kernel or ip has no rules by port: {error.stderr.strip()}")
                # The network is whole: only the old connection is dead, and nobody was told.
                until(lambda old=old: site.wire.ports() - {old}, what="the worker dialled again")
                until(lambda: is_here(client, "w1"), what="it is back")
                took.append(time.monotonic() - began)
        (tmp_path / "job" / "gate").touch()

        assert [job.result(60)] == pids_in(tmp_path / "job" / "pids"), "the same process went on"
        story = cast("list[dict[str, Any]]", job.story())
        assert ends_of(story) == ["JobSubmitted", "AttemptStarted", "JobFinished"]
    # Found by silence, not by TCP, which would go on trying for minutes.
    assert max(took) < 10 * SILENCE_S
    seen = f"another connection in {max(took):.1f} s, with `silence_s` {SILENCE_S:g}"
    tell("F6", "connection that a NAT forgot", CUTS, seen)


def test_a_cut_longer_than_lost_after_gives_one_result(site: Site, tmp_path: Path) -> None:
    with site.client() as client:
        until(lambda: is_here(client, "w1"), what="the worker is there")
        if "w2" not in site.farm.workers:
            site.add_neighbour()
        until(lambda: is_here(client, "w2"), what="its neighbour is there")
        for number in range(CUTS):
            folder = tmp_path / f"job-{number}"
            # The neighbour is busy when the job is placed, and free when the cable is cut.
            busy = folder.with_name(f"busy-{number}")
            blocker = site.hold(client, busy, 120.0, worker="w2")
            job = site.hold(client, folder, LOST_AFTER_S)
            (busy / "gate").touch()
            blocker.result(60)
            site.wire.cut()
            try:
                until(lambda folder=folder: len(pids_in(folder / "pids")) == 2, what="elsewhere")
                first = pids_in(folder / "pids")[0]
                # Its own lease was over before ours: the old attempt is dead, not only cut off.
                assert not Path(f"/proc/{first}").exists(), "two attempts were alive at once"
            finally:
                site.wire.mend()
            (folder / "gate").touch()

            assert job.result(60) == pids_in(folder / "pids")[1]
            until(lambda: is_here(client, "w1"), what="it is back")
            story = cast("list[dict[str, Any]]", job.story())
            assert ends_of(story) == [
                "JobSubmitted",
                "AttemptStarted",
                "AttemptLeft:worker_lost",
                "AttemptStarted",
                "JobFinished",
            ]
            assert story[-1]["outcome"]["worker_id"] == "w2"
    tell("F5", "cut longer than `lost_after`", CUTS, "one result, the old attempt dead first")
