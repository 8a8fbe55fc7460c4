"""The recorder: follows what the coordinator commits, and answers what is asked about runs.

The coordinator only says which jobs have news; what the news is, is read from its database, from
where the files of the run end. So what happens after a crash, of either process, is what happens
always. Reads are answered by a thread, so that a long one does not hold up the recording.
"""

import fcntl
import json
import logging
import os
import select
import socket
import sqlite3
import time
from pathlib import Path
from typing import Any, Final

from lineshaft_coordinator.recorder.answers import Answers
from lineshaft_coordinator.recorder.job_run import JobRun, folder_of
from lineshaft_coordinator.recorder.lanes import Lanes
from lineshaft_coordinator.recorder.link import Link
from lineshaft_coordinator.recorder.looks import Look
from lineshaft_coordinator.recorder.source import Source
from lineshaft_records import optional
from lineshaft_records.documents import (
    change_experiment,
    changed,
    read_info,
    replace_file,
    write_info,
)
from lineshaft_records.errors import NoSuchExperimentError, NoSuchRunError, RecordsError
from lineshaft_records.index import Index
from lineshaft_records.layout import RunFolder, experiment_folder
from lineshaft_records.writer import is_open
from lineshaft_runtime.loops import collect_rarely

logger = logging.getLogger(__name__)

RUNS: Final = "runs"
"""Folder of experiments in the data folder."""
FLUSH_S: Final = 0.25
FLUSH_S_MAX: Final = 1.0
PAUSE_SHARE: Final = 10.0
LOOK_S: Final = 5.0
"""How often all open runs are looked at, news or not."""
TEND_S: Final = 1.0
SYNC_S: Final = 10.0
"""How often rows are brought to the disk. The coordinator's database has them, synced: what is not
whole after a loss of power is read there again, so this bounds only how much that is. Each run is
a sync of its own."""
IDLE_S: Final = 60.0
RETRY_S: Final = 2.0


def record(data: Path, sock: socket.socket) -> None:
    """Record until the other end of the socket is closed.

    Raises:
        MissingPartError: A library is not installed.
        OSError: The folder of runs cannot be written.
    """
    for part in (optional.arrow, optional.numbers, optional.yaml, optional.parquet):
        part()
    pa = optional.arrow()
    pa.set_cpu_count(1)
    collect_rarely()  # A page of events is thousands of live objects, and no cycle.
    base = data / RUNS
    base.mkdir(parents=True, exist_ok=True)
    with (base / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # The one before may still be ending.
        recorder = Recorder(data, base, Link(sock))
        try:
            recorder.run()
        finally:
            recorder.close()


class Recorder:
    """Keeps the runs of one data folder."""

    def __init__(self, data: Path, base: Path, link: Link) -> None:
        self._base, self._link = base, link
        self._source = Source(data)
        self._index = Index(base)
        self._index.refresh()
        self._runs: dict[str, JobRun] = {}
        self._no_runs: set[str] = set()
        """Jobs that were looked at and are no runs so far."""
        self._dirty: set[str] = set()
        self._looks: dict[str, list[Look]] = {}
        """What was seen of machines, and is not written yet."""
        self._flush_at = self._look_at = self._tend_at = self._sync_at = 0.0
        self._heard_at = time.monotonic()
        self._hints = 0
        self._caught_up_at = 0.0
        self._ended: dict[str, JobRun] = {}
        self._answers = Answers(base, self._runs, self._ended)
        self._lanes = Lanes(self._answers, link.send)

    def run(self) -> None:
        """Go on until the link is closed."""
        self._catch_up()
        while self._link.is_open:
            now = time.monotonic()
            wait_s = max(
                0.0, min(self._flush_at if self._dirty else self._tend_at, self._look_at) - now
            )
            ready, _, _ = select.select([self._link], [], [], min(wait_s, TEND_S))
            if ready:
                self._hear(self._link.receive())
            self._work(time.monotonic())
        self._work(float("inf"))

    def close(self) -> None:
        """Leave all runs open for the next recorder."""
        self._lanes.close()
        for run in self._runs.values():
            run.writer.leave()
        self._answers.close()
        self._index.close()
        self._source.close()

    def _hear(self, messages: list[dict[str, Any]]) -> None:
        for message in messages:
            self._heard_at = time.monotonic()
            if "news" in message:
                self._hints += 1
                self._dirty.update(message["news"])
                self._no_runs.difference_update(message["news"])
            elif "machines" in message:
                for job_id, looks in message["machines"].items():
                    self._looks.setdefault(job_id, []).extend(looks)
                    self._dirty.add(job_id)
            elif message.get("ask") in ("edit", "edit_experiment"):
                answer = self._edited(**message["with"])
                self._lanes.say({"id": message["id"], **answer}, b"{}")
            elif "ask" in message:
                self._lanes.ask(message)

    def _edited(
        self, *, changes: dict[str, Any], run: str | None = None, experiment: str = ""
    ) -> dict[str, Any]:
        """Change run.yaml of a run, here, for its writer has it open; or experiment.yaml."""
        try:
            if run is None:
                change_experiment(experiment_folder(self._base, experiment), changes)
                return {}
            folder = self._answers.folder(run)
            live = self._runs.get(folder.name)
            info = changed(live.writer.info if live else read_info(folder), changes)
            write_info(folder, info)
            if live:
                live.writer.info = info
            self._index.note(folder)
        except (OSError, sqlite3.Error, RecordsError) as error:
            return {
                "error": str(error),
                "status": 404
                if isinstance(error, (NoSuchRunError, NoSuchExperimentError))
                else 500,
            }
        return {}

    def _work(self, now: float) -> None:
        if self._dirty and now >= self._flush_at:
            jobs, self._dirty = self._dirty, set()
            began = time.monotonic()
            for job_id in jobs:
                self._follow(job_id)
            # Many busy runs are looked at less often: larger flushes cost less in all.
            pause_s = min(FLUSH_S_MAX, PAUSE_SHARE * (time.monotonic() - began))
            self._flush_at = max(self._flush_at, began + max(FLUSH_S, pause_s))
        if now >= self._look_at:
            self._look_at = time.monotonic() + LOOK_S
            for job_id in [*self._runs]:
                self._follow(job_id)
        if now >= self._sync_at:
            self._sync_at = time.monotonic() + SYNC_S
            for run in self._runs.values():
                run.writer.sync()
        if now >= self._tend_at:
            self._tend_at = time.monotonic() + TEND_S
            for job_id in [each for each, run in self._ended.items() if not run.is_watched]:
                del self._ended[job_id]
            if not self._dirty:
                self._note_place()
        is_idle = not self._runs and not self._dirty and now - self._heard_at > IDLE_S
        if is_idle and now != float("inf"):
            self._heard_at = now
            self._lanes.say({"idle": self._hints})

    def _follow(self, job_id: str) -> None:
        """Record what a job said since, and its end; try again later what cannot be done now."""
        try:
            self._advance(job_id)
        except (OSError, sqlite3.Error, RecordsError) as error:
            logger.warning(
                "a run waits to be recorded", extra={"job_id": job_id, "why": str(error)}
            )
            self._drop(job_id)
            self._dirty.add(job_id)
            self._flush_at = time.monotonic() + RETRY_S
        except Exception:
            # What one job said or left must not end the records of all others; it is tried again
            # when there is news of it.
            logger.exception("a run cannot be recorded", extra={"job_id": job_id})
            self._drop(job_id)

    def _advance(self, job_id: str) -> None:
        # First where the job is, then what it said: an end that is seen comes after all of it.
        row = self._source.row(job_id)
        run = self._runs.get(job_id) or self._opened(job_id)
        looks = self._looks.pop(job_id, [])
        if run is None:
            return
        run.note_machine(looks)
        run.advance(self._source)
        if row is None or not row.is_live:
            run.end(self._source)
            if run.is_watched:
                # Before it is gone from the others, so that who answers finds it in one of them.
                self._ended[job_id] = run
            del self._runs[job_id]
            self._index.note(run.folder)
        elif run.writer.tend(time.monotonic()):
            self._index.note(run.folder)

    def _opened(self, job_id: str) -> JobRun | None:
        """Begin the run of a job, or go on with it; None if it is none, or is over."""
        if job_id in self._no_runs:
            return None
        begun = self._source.begun(job_id)
        if begun is None:
            return None
        folder = folder_of(self._base, begun)
        is_known = folder.info.exists()
        if is_known and not is_open(folder):
            return None
        is_own = begun.kind == "pipeline" and begun.started_at is not None and begun.group is None
        if not (is_known or is_own or self._source.is_telling(job_id)):
            self._no_runs.add(job_id)
            return None
        run = self._runs[job_id] = JobRun(self._base, begun)
        self._index.note(run.folder)
        return run

    def _drop(self, job_id: str) -> None:
        run = self._runs.pop(job_id, None)
        if run is not None:
            try:
                run.writer.leave()
            except OSError:  # The disk failed; what was written before is whole.
                logger.warning("a run cannot be synced", extra={"job_id": job_id})

    # --- what happened while nobody recorded ---

    def _catch_up(self) -> None:
        """Find the runs of jobs that said something, began or ended since the last recorder."""
        before = self._place()
        now = time.time()
        for each in self._index.listed(status="RUNNING", limit=1_000_000):
            folder = RunFolder(self._base / each.experiment / each.run)
            if is_open(folder):
                self._dirty.add(each.run)
            else:
                self._index.note(folder)
        known = {each.run for each in self._index.listed(limit=1_000_000)}
        for job_id, _ in self._source.candidates(before):
            if job_id not in known:
                self._dirty.add(job_id)
        self._caught_up_at = now
        logger.info("recorder caught up", extra={"jobs": len(self._dirty)})

    def _place(self) -> float:
        try:
            return float(json.loads((self._base / ".recorder.json").read_text())["looked_at"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0.0

    def _note_place(self) -> None:
        """Say up to when no job has to be looked for."""
        now = time.time()
        if now - self._caught_up_at < IDLE_S / 2 and self._link.is_open and self._place():
            return
        self._caught_up_at = now
        try:
            text = json.dumps({"looked_at": now, "pid": os.getpid()})
            replace_file(self._base / ".recorder.json", text.encode())
        except OSError as error:  # The next one looks for more.
            logger.warning("the recorder's place is not kept", extra={"why": str(error)})
