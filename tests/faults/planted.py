"""F32 for real processes: bugs that are planted into a copy of the tree, and who must notice."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
COPIED = (
    "client",
    "coordinator",
    "protocol",
    "records",
    "runtime",
    "worker",
    "tests",
    "pyproject.toml",
)
PACKAGES = ("client", "coordinator", "protocol", "records", "runtime", "worker")
SECONDS_MAX = 180
"""Far more than a test needs that notices; one that hangs for a planted bug has noticed too."""


@dataclass(frozen=True)
class Planted:
    """One bug: what to write instead of what, and the test that must fail for it."""

    file: str
    right: str
    wrong: str
    test: str
    night: float = 0.0
    """Which part of the night's number of faults it takes to see it; 0.0: by day it is seen."""


WORKERS = "coordinator/lineshaft_coordinator/core/workers.py"
CHILDREN = "tests/unit/core/test_coordinator_children.py"
RECORDS = "tests/faults/test_record_kills.py"
LEASES = "tests/unit/core/test_coordinator_leases.py"
EXECUTION = "worker/lineshaft_worker/execution"
STOPPING = "tests/integration/execution/test_stopping.py"
RETENTION = "tests/integration/coordinator/test_retention.py"
SECRETS = "tests/e2e/test_secrets.py::test_a_secret_is_nowhere_but_in_the_environment_of_its_job"
JOB_FILES = (
    "tests/e2e/test_job_files.py"
    "::test_only_the_files_that_changed_are_sent_and_the_job_cannot_spoil_them"
)
PAUSED = "tests/e2e/cli/test_pauses.py::test_a_job_is_paused_told_and_resumed"
MODULES = (
    "tests/e2e/test_environments.py"
    "::test_a_module_that_is_not_there_is_named_and_nothing_of_the_job_runs"
)
BUNDLES = "tests/unit/execution/test_bundles.py"
SOAK = (
    "tests/faults/test_soak.py"
    "::test_memory_and_files_of_the_coordinator_are_flat_under_load_and_mute_viewers"
)

PLANTED = {
    "the shim leaves without a sweep": Planted(
        f"{EXECUTION}/shim.py",
        "        while self.reap():\n            # Stopped first",
        "        while False:\n            # Stopped first",
        f"{STOPPING}::test_no_child_survives_a_stop_whatever_it_tried",
    ),
    "a cancelled attempt is told as ended before its processes are gone": Planted(
        f"{EXECUTION}/lane.py",
        "            host.stop(grace_s)\n        else:",
        "            host.stop(grace_s)\n"
        "            self._owner.finish(attempt, Stopped(), Ending())\n        else:",
        f"{STOPPING}::test_no_child_survives_a_stop_whatever_it_tried",
    ),
    "a shim holds no lease": Planted(
        f"{EXECUTION}/shim.py",
        "                if left_s <= 0:\n",
        "                if left_s <= -3600:\n",
        "tests/faults/test_dead_daemons.py"
        "::test_an_attempt_whose_daemon_is_away_ends_before_it_begins_elsewhere",
    ),
    "a new daemon ends what it finds running": Planted(
        f"{EXECUTION}/pool.py",
        "        host.process.poke()\n",
        "        host.stop(0.0)\n",
        "tests/integration/execution/test_adoption.py"
        "::test_a_pipeline_goes_on_in_the_same_process_with_nothing_lost",
    ),
    "a new daemon ends a job in the middle of its work": Planted(
        f"{EXECUTION}/pool.py",
        "        host.process.poke()\n",
        "        host.stop(0.0)\n",
        "tests/faults/test_worker_kills.py"
        "::test_killed_daemons_neither_disturb_their_job_nor_lose_a_line_of_it",
    ),
    "a result is accepted without its fence": Planted(
        "coordinator/lineshaft_coordinator/core/workers.py",
        "            and state.attempt == attempt\n"
        "            and state.worker_id == worker.worker_id\n",
        "",
        "tests/faults/test_stalls.py"
        "::test_a_result_that_a_sleeper_brings_does_not_end_the_attempt_of_another",
    ),
    "a new daemon does not hand out again what nobody has acknowledged": Planted(
        f"{EXECUTION}/tail.py",
        "                self._repeats.append(expected)\n",
        "                self._places = list(expected)\n",
        "tests/integration/execution/test_power_loss.py"
        "::test_ends_that_nobody_took_are_told_after_a_loss_of_power",
    ),
    "an end is synced without its result": Planted(
        "worker/lineshaft_worker/runner/files.py",
        "        if name.startswith(mine) or name in (*STREAMS, DESCRIPTION, SHIM_PID):\n",
        "        if name in (*STREAMS, DESCRIPTION, SHIM_PID):\n",
        "tests/integration/execution/test_power_loss.py"
        "::test_ends_that_nobody_took_are_told_after_a_loss_of_power",
    ),
    "the coordinator tells before it commits": Planted(
        "coordinator/lineshaft_coordinator/server/daemon.py",
        "            await self.room.wait_for(partial(self._store.append, batch))\n",
        "            self._spawn(self.room.wait_for(partial(self._store.append, batch)))\n",
        "tests/faults/test_crash_points.py"
        "::test_a_daemon_that_dies_at_any_point_of_its_work_loses_nothing[coordinator]",
    ),
    "a dead rank does not end the others": Planted(
        "worker/lineshaft_worker/runner/ranks.py",
        "            self._failed = rank\n            self._end_others()\n",
        "            self._failed = rank\n",
        "tests/e2e/test_ranks.py::test_the_first_dead_rank_ends_all[one worker]",
    ),
    "a full disk ends the worker's daemon": Planted(
        "worker/lineshaft_worker/daemon/shell.py",
        "        except (OSError, KeyError, ValueError) as error:\n            text =",
        "        except (KeyError, ValueError) as error:\n            text =",
        "tests/faults/test_full_disk_on_workers.py"
        "::test_a_full_disk_of_a_worker_fails_what_needs_it_and_ends_nothing_else",
    ),
    "any worker may ask for the child of a plan": Planted(
        WORKERS,
        "        if parent is None or job is None:\n",
        "        job = job or shop.ledger.jobs.get(JobId(parent.job_id)) if parent else None\n"
        "        if parent is None or job is None:\n",
        f"{CHILDREN}::test_only_the_worker_that_has_the_plan_asks_for_its_child",
    ),
    "an attempt that is over may ask for a child": Planted(
        WORKERS,
        "self._leased(worker, JobId(parent.job_id), parent.attempt) if parent else None",
        "shop.ledger.jobs.get(JobId(parent.job_id)) if parent else None",
        f"{CHILDREN}::test_only_the_attempt_that_runs_asks_for_its_child",
    ),
    "a plan is answered with another's job": Planted(
        WORKERS,
        "        return known is not None and known.spec.parent != spec.parent\n",
        "        return known is not None and known.spec.kind != spec.kind\n",
        f"{CHILDREN}::test_a_job_of_a_client_is_not_taken_for_a_child_of_the_same_id",
    ),
    "a child that has ended runs again": Planted(
        WORKERS,
        "        elif (done := shop.ledger.recent.get(job_id)) is not None:\n",
        "        elif (done := shop.ledger.recent.get(job_id)) and not spawn.is_repeat:\n",
        f"{CHILDREN}::test_a_child_that_has_ended_is_answered_and_not_run_again",
    ),
    "a child that waits is accepted again": Planted(
        WORKERS,
        "        elif job_id in shop.ledger.jobs:\n            pass  # It is on",
        "        elif job_id in shop.blocked:\n            pass  # It is on",
        f"{CHILDREN}::test_a_child_that_waits_is_not_accepted_again",
    ),
    "a coordinator that stops accepts children": Planted(
        WORKERS,
        "        elif shop.is_stopping:\n",
        "        elif shop.is_stopping and spawn.is_repeat:\n",
        f"{LEASES}::test_a_child_asked_of_a_coordinator_that_stops_is_left_to_the_next_one",
    ),
    "a child may come after other jobs": Planted(
        WORKERS,
        "        if spec.after:\n",
        "        if spec.after and spec.nodes:\n",
        f"{LEASES}::test_a_child_goes_through_the_checks_of_a_submit",
    ),
    "a child is not checked as a Submit is": Planted(
        WORKERS,
        "        refused = refusal_of(self._shop, spec)\n",
        "        refused = None\n",
        f"{LEASES}::test_a_child_goes_through_the_checks_of_a_submit",
    ),
    "a client submits the child of a plan": Planted(
        "coordinator/lineshaft_coordinator/core/clients.py",
        "        if spec.parent is not None:\n",
        "        if spec.parent is not None and spec.part is not None:\n",
        "tests/unit/core/test_coordinator_jobs.py::test_a_client_cannot_submit_the_child_of_a_plan",
    ),
    "a recorder that died writes again what it wrote": Planted(
        "coordinator/lineshaft_coordinator/recorder/job_run.py",
        '        position = {"attempt": last[0], "seq": last[1]} |',
        '        position = {"attempt": self._after[0], "seq": self._after[1]} |',
        f"{RECORDS}::test_s004_08_no_row_is_lost_or_doubled_whoever_is_killed",
    ),
    "a recorder that died goes on one event too late": Planted(
        "coordinator/lineshaft_coordinator/recorder/job_run.py",
        '        self._after = (position.get("attempt", 0), position.get("seq", 0))\n',
        '        self._after = (position.get("attempt", 0), position.get("seq", -1) + 1)\n',
        f"{RECORDS}::test_s004_08_no_row_is_lost_or_doubled_whoever_is_killed",
        night=0.25,  # By day the kills are so few that one in three runs sees nothing.
    ),
    "a kept value is collected though a job names it": Planted(
        "coordinator/lineshaft_coordinator/server/upkeep.py",
        "unneeded.difference_update(blobs_named(record))\n",
        "unneeded.difference_update(blobs_named(record.partition(b'\"files\"')[0]))\n",
        f"{RETENTION}::test_whatever_comes_no_blob_of_a_live_or_kept_job_goes_and_all_others_do",
    ),
    "a value that is put again stays old": Planted(
        "coordinator/lineshaft_coordinator/data/blobs.py",
        "                self._shelf.make_young(blob_id)\n                return None\n",
        "                return None\n",
        "tests/integration/store/test_blobs.py"
        "::test_a_collection_removes_what_is_old_and_not_needed",
    ),
    "a job does not name the values it is called with": Planted(
        "client/lineshaft/shipping.py",
        '"files": (*(each.id for each in files), *found.refs) or None,',
        '"files": tuple(each.id for each in files) or None,',
        "tests/e2e/test_values.py::test_references_may_be_nested_in_arguments",
    ),
    "a secret that comes in two pieces is printed": Planted(
        "runtime/lineshaft_runtime/redaction.py",
        "        return data[:hold], data[hold:]\n",
        '        return data, b""\n',
        SECRETS,
    ),
    "a secret stands in a metric": Planted(
        "runtime/lineshaft_runtime/spool.py",
        "            line = self.redactor.clean(line)\n",
        "            pass\n",
        SECRETS,
    ),
    "a secret stands in the story, in an error's text": Planted(
        "worker/lineshaft_worker/runner/failures.py",
        "        _sound(_clean(_message(error), redactor)[:MESSAGE_CHARACTERS_MAX]),\n",
        "        _sound(_message(error)[:MESSAGE_CHARACTERS_MAX]),\n",
        f"{SECRETS}[raise]",
    ),
    "a file that has changed is sent as it was": Planted(
        "client/lineshaft/job_files.py",
        "def _read(path: Path) -> bytes:\n",
        '@__import__("functools").cache\ndef _read(path: Path) -> bytes:\n',
        JOB_FILES,
    ),
    "a blob is taken for a file though its content is another": Planted(
        "runtime/lineshaft_runtime/bundles.py",
        "    if (digest.hexdigest(), size_bytes) != (ref.sha256, ref.size_bytes):\n",
        "    if size_bytes != ref.size_bytes:\n",
        f"{BUNDLES}::test_a_blob_that_is_not_what_it_is_called_is_refused",
    ),
    "a job is told to be paused when it was only asked": Planted(
        "coordinator/lineshaft_coordinator/core/pausing.py",
        "                if lease is not None and lease.is_frozen:\n",
        "                if lease is not None:\n",
        PAUSED,
    ),
    "a job is told to be paused before its checkpoint is stored": Planted(
        "worker/lineshaft_worker/daemon/shell.py",
        "        must_store = file is not None or self._keeper.is_busy(key)\n",
        "        must_store = file is not None\n",
        "tests/e2e/cli/test_pauses.py::test_paused_is_said_when_the_checkpoint_is_stored",
    ),
    "nobody looks for the modules of a job before it starts": Planted(
        "worker/lineshaft_worker/daemon/preparing.py",
        "                missing = missing_here(names)\n",
        "                missing = []\n",
        MODULES,
    ),
    "nobody looks for the modules in an environment": Planted(
        "worker/lineshaft_worker/daemon/preparing.py",
        "                missing = self._environments.missing(preparation.environment, names)\n",
        "                missing = []\n",
        MODULES,
    ),
    "a job takes its slot before its modules are looked for": Planted(
        "worker/lineshaft_worker/core/supplies.py",
        "        is_known = all(name in self._importable for name in job.modules or ())\n",
        "        is_known = True\n",
        MODULES,
    ),
    "no file is executable in the job": Planted(
        "client/lineshaft/job_files.py",
        "    return bool(info.st_mode & stat.S_IXUSR)\n",
        "    return bool(info.st_mode & stat.S_ISVTX)\n",
        "tests/e2e/test_environments.py::test_an_executable_file_is_executable_in_the_job",
    ),
    "every file is executable in the job": Planted(
        "runtime/lineshaft_runtime/bundles.py",
        "mode=0o700 if path in able else 0o600)",
        "mode=0o700)",
        f"{BUNDLES}::test_what_is_executable_stays_so_and_nothing_else_becomes_it",
    ),
    "each submit leaves a file open": Planted(
        "coordinator/lineshaft_coordinator/server/daemon.py",
        "        missing = self._referring.missing(job)\n        may_be_known",
        '        self.__dict__.setdefault("opened", []).append(Path("/dev/null").open())\n'
        "        missing = self._referring.missing(job)\n        may_be_known",
        SOAK,
    ),
    "all jobs that ended are kept whole": Planted(
        "coordinator/lineshaft_coordinator/core/lately.py",
        "        while len(whole) > self.whole_max or self._characters > CHARACTERS_MAX:\n",
        "        while False:\n",
        SOAK,
        night=0.1,
    ),
}


def notices(name: str, folder: Path) -> tuple[bool, str]:
    """Plant a bug into a copy of the tree, and run its test there.

    Returns:
        Whether the test failed, and what it said. A test that was skipped has not noticed.
    """
    bug = PLANTED[name]
    for part in COPIED:
        source = ROOT / part
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=ignored)
        else:
            shutil.copy(source, folder / part)
    path = folder / bug.file
    text = path.read_text()
    assert text.count(bug.right) == 1, f"{bug.file} has changed: plant {name!r} anew"
    path.write_text(text.replace(bug.right, bug.wrong))
    # Before what is installed, for all processes that the test starts.
    packages = os.pathsep.join(str(folder / package) for package in PACKAGES)
    environ = os.environ | {"PYTHONPATH": packages, "PYTHONDONTWRITEBYTECODE": "1"}
    environ.pop("LINESHAFT_FAULT_COUNTS", None)
    if bug.night:
        environ |= {"LINESHAFT_NIGHTLY": "1", "LINESHAFT_NIGHTLY_SCALE": str(bug.night)}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", bug.test]
    try:
        run = subprocess.run(
            command,
            cwd=folder,
            env=environ,
            check=False,
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
        )
    except subprocess.TimeoutExpired as slow:
        return True, f"it hung: {slow}"
    # 1: a test failed. Anything else says nothing about the bug.
    return run.returncode == 1, run.stdout[-3000:] + run.stderr[-1000:]
