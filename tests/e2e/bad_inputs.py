"""Every bad input of a pipeline job that we know: what a user does, and what the user is told."""

import importlib
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.farm import Farm, until

import lineshaft
from lineshaft import Client
from lineshaft.errors import (
    CannotLoadError,
    CannotPackError,
    DependencyFailedError,
    EntryPointError,
    EnvironmentFailedError,
    FileNotKeptError,
    InvalidJobError,
    JobMemoryError,
    JobNotFoundError,
    JobRefusedError,
    JobTimeoutError,
    NotPausedError,
    NoWorkerFitsError,
    ProcessExitedError,
    ResultError,
    SilenceTimeoutError,
)
from lineshaft.graph_needs import ConflictingRequirementsError
from lineshaft.job_files import FilesError, NoFileError
from lineshaft_protocol.errors import LineshaftError
from lineshaft_runtime.bundles import BundleError
from lineshaft_runtime.packing import PackingError
from lineshaft_runtime.requirements import RequirementsError
from lineshaft_runtime.sizes import SizeError

GIB = 1024**3
TINY = "import lstiny\ndef main():\n    return lstiny.version\n"
PLAIN = "def main():\n    return 1\n"
WAITS = "import signal\nwhile True: signal.sigtimedwait((), 0.02)"
CANNOT_SAVE = """
import signal
from lineshaft import run
while True:
    run.progress(1, 2)
    if run.should_pause():
        run.checkpoint("no-such-file.pt", step=1)
        run.paused()
    signal.sigtimedwait((), 0.02)
"""
ESCAPES = """
from pathlib import Path
from lineshaft import run
Path("model").write_text("weights")
run.artifact("model", name="../../model")
"""


@dataclass(frozen=True, slots=True)
class Bench:
    """What a user has: a client of a farm with one worker, and a folder."""

    farm: Farm
    client: Client
    folder: Path

    def run(self, source: str = PLAIN, entry_point: str = "job.py:main", **options: Any) -> object:
        """Run a script, and wait for its end."""
        options.setdefault("files", {"job.py": source})
        return self.client.run(entry_point, **options).result(60)

    def submit(self, function: Callable[..., object], *args: object, **options: Any) -> object:
        """Call a function, and wait for its end."""
        return self.client.options(**options).submit(function, *args).result(60)

    def running(self, source: str, **options: Any) -> lineshaft.Job[object]:
        """Start a script, and wait until it runs."""
        job = self.client.run("job.py", files={"job.py": source}, **options)
        until(lambda: job.status == "running", what="it runs")
        return job


@dataclass(frozen=True, slots=True)
class Bad:
    """One bad input."""

    deed: Callable[[Bench], object]
    error: type[LineshaftError]
    says: tuple[str, ...]
    """The thing that is wrong, and a way out."""
    begins: bool = field(default=False, kw_only=True)
    """Whether only running can show it, so that an attempt may begin."""


def _hashed(bench: Bench) -> object:
    wrong = f"lstiny==1.5 --hash=sha256:{'0' * 64}"
    return bench.run(TINY, requirements=["--require-hashes", wrong])


def _unread_file(bench: Bench) -> object:
    path = bench.folder / "requirements.txt"
    path.write_text("numpy\nscipy === = 1\n")
    return bench.run(requirements=path)


def _conflict(bench: Bench) -> object:
    class One(lineshaft.Filter):
        requirements = ("lstiny==1.5",)

        def forward(self, x: object) -> object:
            return x

    class Other(lineshaft.Filter):
        requirements = ("lstiny==2.0",)

        def forward(self, x: object) -> object:
            return x

    return bench.client.fit(lineshaft.Pipeline([("one", One()), ("other", Other())]), 1)


def _holds_lock(bench: Bench) -> object:
    lock = threading.Lock()
    return bench.submit(lambda: lock.locked())


@contextmanager
def _away(bench: Bench) -> Iterator[Any]:
    """A module that is installed here alone."""
    (bench.folder / "lsaway.py").write_text("VALUE = 1\nclass Thing: pass\n")
    sys.path.insert(0, str(bench.folder))
    try:
        yield importlib.import_module("lsaway")
    finally:
        sys.path.remove(str(bench.folder))
        del sys.modules["lsaway"]


def _function_of_away(bench: Bench) -> object:
    with _away(bench) as away:
        return bench.submit(lambda: away.VALUE)


def _argument_of_away(bench: Bench) -> object:
    with _away(bench) as away:
        return bench.submit(print, [away.Thing()])


def _filter_of_away(bench: Bench) -> object:
    class Adds(lineshaft.Filter):
        def forward(self, x: object) -> object:
            return x, thing

    with _away(bench) as away:
        thing = away.Thing()
        return bench.client.forward(lineshaft.Pipeline([("adds", Adds())]), 1)


def _unloadable() -> object:
    class Unloadable:
        def __reduce__(self) -> tuple[type, tuple[str]]:
            return int, ("no number",)

    return Unloadable()


def _link(bench: Bench) -> object:
    folder = bench.folder / "linked"
    folder.mkdir()
    (folder / "job.py").write_text(PLAIN)
    (folder / "passwd").symlink_to("/etc/passwd")
    return bench.run(files={"": folder})


def _sparse(bench: Bench) -> object:
    folder = bench.folder / "large"
    folder.mkdir()
    (folder / "job.py").write_text(PLAIN)
    with (folder / "weights.bin").open("wb") as file:
        file.truncate(2 * GIB)
    return bench.run(files={"": folder})


def _escaping_artifact(bench: Bench) -> object:
    job = bench.client.run("job.py", files={"job.py": ESCAPES})
    job.result(60)
    (kept,) = job.artifacts()
    return kept.download(bench.folder / "got")


def _cannot_save(bench: Bench) -> object:
    job = bench.running(CANNOT_SAVE)
    try:
        return job.pause(grace=20)
    finally:
        job.cancel()


def _deaf(bench: Bench) -> object:
    job = bench.running(WAITS)
    try:
        return job.pause(grace=0.5)
    finally:
        job.cancel()


def _pause_of_ended(bench: Bench) -> object:
    job = bench.client.run("job.py:main", files={"job.py": PLAIN})
    job.result(60)
    return job.pause()


def _comes_after_failed(bench: Bench) -> object:
    first = bench.client.run("job.py", files={"job.py": "raise SystemExit(3)"})
    until(lambda: first.status == "failed", what="the first one failed")
    return bench.run(after=[first])


ENVIRONMENTS = {
    "a requirement that no index has": Bad(
        lambda bench: bench.run(TINY, requirements=["lstiny==7"]),
        EnvironmentFailedError,
        ("lstiny==7", "--find-links"),
    ),
    "a requirement that cannot be read": Bad(
        lambda bench: bench.run(requirements=["scipy === = 1"]),
        RequirementsError,
        ("scipy === = 1",),
    ),
    "a file of requirements that cannot be read": Bad(
        _unread_file, RequirementsError, ("scipy === = 1", "requirements.txt")
    ),
    "a package with another hash": Bad(
        _hashed, EnvironmentFailedError, ("lstiny==1.5", "make the lock anew")
    ),
    "a package without a hash where all must have one": Bad(
        lambda bench: bench.run(TINY, requirements=["--require-hashes", "lstiny==1.5"]),
        RequirementsError,
        ("'lstiny==1.5'", "has no --hash"),
    ),
    "an index that the worker does not allow": Bad(
        lambda bench: bench.run(requirements=["--index-url https://evil.example/", "lstiny"]),
        EnvironmentFailedError,
        ("evil.example", "--allow-index"),
    ),
    "a script whose block is no TOML": Bad(
        lambda bench: bench.run(f"# /// script\n# dependencies = [\n# ///\n{PLAIN}"),
        RequirementsError,
        ("block",),
    ),
    "filters that contradict each other": Bad(
        _conflict, ConflictingRequirementsError, ("'one'", "'other'", "lstiny", "agree")
    ),
    "a Python that no worker has": Bad(
        lambda bench: bench.run(python="3.4"),
        NoWorkerFitsError,
        ("Python 3.1", "3.4", "queue_timeout"),
    ),
    "a Python that is no version": Bad(
        lambda bench: bench.run(python="newest"), InvalidJobError, ("newest", "3.12")
    ),
    "a script that wants a Python that no worker has": Bad(
        lambda bench: bench.run(f'# /// script\n# requires-python = "<3"\n# ///\n{PLAIN}'),
        EnvironmentFailedError,
        ("<3", "uv python install"),
    ),
    "a function for another Python": Bad(
        lambda bench: bench.submit(pow, 2, 2, python="3.4"),
        InvalidJobError,
        ("3.4", "client.run("),
    ),
}

CODE = {
    "a file that is not there": Bad(
        lambda bench: bench.run(files=["no-such.py"]), NoFileError, ("no-such.py", "files=")
    ),
    "an entry point without a file": Bad(
        lambda bench: bench.run(entry_point="jobs.py"), InvalidJobError, ("jobs.py", "has job.py")
    ),
    "an entry point without a function": Bad(
        lambda bench: bench.run(entry_point="job.py:mian"),
        InvalidJobError,
        ("mian", "it has main"),
    ),
    "an entry point that only running shows to be missing": Bad(
        lambda bench: bench.run("if len('x') > 1:\n    main = print"),
        EntryPointError,
        ("main", "job.py"),
        begins=True,
    ),
    "an installed module that has no such function": Bad(
        lambda bench: bench.run(entry_point="json:mian"),
        EntryPointError,
        ("mian", "json"),
        begins=True,
    ),
    "an entry point in a module that is not there": Bad(
        lambda bench: bench.run(entry_point="lsnowhere:main"),
        EnvironmentFailedError,
        ("lsnowhere", "files="),
    ),
    "a script that imports what is not there": Bad(
        lambda bench: bench.run(f"import lsnowhere\n{PLAIN}"),
        EnvironmentFailedError,
        ("lsnowhere", "requirements="),
    ),
    "a script that imports what its requirements lack": Bad(
        lambda bench: bench.run(TINY, requirements=["lsother"]),
        EnvironmentFailedError,
        ("lstiny", "requirements="),
    ),
    "a function whose module its worker has not": Bad(
        _function_of_away, EnvironmentFailedError, ("lsaway", "the function", "requirements=")
    ),
    "an argument whose module its worker has not": Bad(
        _argument_of_away, EnvironmentFailedError, ("lsaway", "called with", "requirements=")
    ),
    "a filter whose module its worker has not": Bad(
        _filter_of_away, EnvironmentFailedError, ("lsaway", "the plan", "requirements=")
    ),
    "a function that cannot be pickled": Bad(
        _holds_lock, CannotPackError, ("'lock'", "inside the function")
    ),
    "an argument that cannot be pickled": Bad(
        lambda bench: bench.submit(print, {"rows": [threading.Lock()]}),
        CannotPackError,
        ("['rows'][0]", "inside the function"),
    ),
    "a parameter that cannot be pickled": Bad(
        lambda bench: bench.run(params={"lock": threading.Lock()}),
        CannotPackError,
        ("['lock']", "inside the function"),
    ),
    "a result that cannot be pickled": Bad(
        lambda bench: bench.submit(threading.Lock),
        ResultError,
        ("lock",),
        begins=True,
    ),
    "an argument that cannot be unpickled": Bad(
        lambda bench: bench.submit(print, _unloadable()),
        CannotLoadError,
        ("no number", "must be installed there"),
        begins=True,
    ),
    "a result that cannot be unpickled here": Bad(
        lambda bench: bench.submit(lambda make: make(), _unloadable),
        PackingError,
        ("cannot be unpickled", "no number"),
        begins=True,
    ),
    "a file whose name leads out": Bad(
        lambda bench: bench.run(files={"job.py": PLAIN, "../job.py": ""}),
        BundleError,
        ("../job.py",),
    ),
    "a file with an absolute name": Bad(
        lambda bench: bench.run(files={"job.py": PLAIN, "/etc/cron.d/x": ""}),
        BundleError,
        ("/etc/cron.d/x",),
    ),
    "two names that are one on some disks": Bad(
        lambda bench: bench.run(files={"job.py": PLAIN, "a.txt": "", "A.TXT": ""}),
        BundleError,
        ("A.TXT", "a.txt"),
    ),
    "a link that leads elsewhere": Bad(_link, FilesError, ("passwd",)),
    "files that are too large": Bad(_sparse, FilesError, ("weights.bin", "2 GiB", "1 GiB")),
}

DEVICES = {
    "a GPU that no worker has": Bad(
        lambda bench: bench.run(resources={"gpus": 64}), NoWorkerFitsError, ("64", "GPU")
    ),
    "memory of a GPU that is no size": Bad(
        lambda bench: bench.run(resources={"gpus": 1, "gpu_memory": "much"}),
        SizeError,
        ("much", "GiB"),
    ),
    "memory of a GPU without a GPU": Bad(
        lambda bench: bench.run(resources={"gpu_memory": "1GiB"}),
        InvalidJobError,
        ("gpu_memory", "add gpus"),
    ),
    "memory that no worker has": Bad(
        lambda bench: bench.run(resources={"memory": "4000TiB"}),
        NoWorkerFitsError,
        ("memory", "Ask for less"),
    ),
    "a resource that there is not": Bad(
        lambda bench: bench.run(resources={"tpus": 1}), InvalidJobError, ("tpus", "gpus")
    ),
    "a tag that no worker has": Bad(
        lambda bench: bench.run(tags=["quantum"]), NoWorkerFitsError, ("quantum", "queue_timeout")
    ),
    "a gang that can never fit": Bad(
        lambda bench: bench.run(nodes=9), NoWorkerFitsError, ("9 workers at once", "1")
    ),
    "a gang of functions": Bad(
        lambda bench: bench.submit(pow, 2, 2, nodes=2),
        JobRefusedError,
        ("only pipeline jobs take nodes",),
    ),
    "GPUs that ranks cannot share evenly": Bad(
        lambda bench: bench.run(processes=2, resources={"gpus": 3}),
        JobRefusedError,
        ("2 processes cannot share 3 GPUs", "multiple"),
    ),
}

CONTROL = {
    "a pause for which the job cannot save": Bad(
        _cannot_save, NotPausedError, ("no-such-file.pt",), begins=True
    ),
    "a pause that the job does not hear": Bad(
        _deaf, NotPausedError, ("run.should_pause()",), begins=True
    ),
    "a pause of a job that has ended": Bad(
        _pause_of_ended, NotPausedError, ("ended",), begins=True
    ),
    "a job that runs too long": Bad(
        lambda bench: bench.run(WAITS, "job.py", timeout=0.3),
        JobTimeoutError,
        ("0.3 s", "longer timeout="),
        begins=True,
    ),
    "a job that says nothing": Bad(
        lambda bench: bench.run(WAITS, "job.py", silence_timeout=0.5),
        SilenceTimeoutError,
        ("0.5", "silence_timeout"),
        begins=True,
    ),
    "a job that needs too much memory": Bad(
        lambda bench: bench.run(
            f"a = bytearray({GIB})\n{WAITS}", "job.py", resources={"memory": "200MiB"}
        ),
        JobMemoryError,
        ("200 MiB", "resources={'memory'"),
        begins=True,
    ),
    "a script that leaves with a status": Bad(
        lambda bench: bench.run("print('so far')\nraise SystemExit(3)", "job.py"),
        ProcessExitedError,
        ("status 3", "so far"),
        begins=True,
    ),
    "a job after one that failed": Bad(
        _comes_after_failed, DependencyFailedError, ("ended as failed", "job.retry()")
    ),
    "a job after one that there is not": Bad(
        lambda bench: bench.run(after=["nobody-1"]), JobNotFoundError, ("nobody-1",)
    ),
    "a job that there is not": Bad(
        lambda bench: bench.client.job("nobody-1").result(10), JobNotFoundError, ("nobody-1",)
    ),
    "an array without items": Bad(
        lambda bench: bench.client.array("job.py:main", [], files={"job.py": PLAIN}),
        InvalidJobError,
        ("1 to",),
    ),
    "an option that there is not": Bad(
        lambda bench: bench.run(gpu=1), InvalidJobError, ("'gpu'", "resources")
    ),
    "a gang that others may push aside": Bad(
        lambda bench: bench.run(nodes=2, preemptible=True), JobRefusedError, ("preemptible",)
    ),
}

KEPT = {
    "an artifact whose name leads out": Bad(
        _escaping_artifact, FileNotKeptError, ("../../model",), begins=True
    ),
    "a secret that is not kept": Bad(
        lambda bench: bench.run(secrets=["NOT_KEPT"]),
        JobRefusedError,
        ("lineshaft secret set NOT_KEPT",),
    ),
    "a secret for what is no variable": Bad(
        lambda bench: bench.run(secrets=["no-name"]),
        InvalidJobError,
        ("secrets", "'no-name'", "letters"),
    ),
}

BAD_INPUTS = {**ENVIRONMENTS, **CODE, **DEVICES, **CONTROL, **KEPT}
"""By what is wrong; one after the other on a farm of one worker without GPUs."""

ENDINGS = "tests/integration/execution/test_endings.py"
BUILDS = "tests/integration/environments/test_builds.py"
FILES = "tests/unit/client/test_job_files.py"
BUNDLES = "tests/unit/execution/test_bundles.py"

ELSEWHERE = {
    # Environments.
    "a damaged package": f"{BUILDS}::test_a_damaged_package_fails_and_its_mended_form_works",
    "an index that is down": f"{BUILDS}::test_an_index_that_is_down_fails_with_its_address",
    "a disk without room for an environment": "tests/integration/environments/test_room.py"
    "::test_a_disk_that_is_full_fails_and_leaves_nothing",
    "two filters of which one cannot be read": "tests/unit/client/test_requirements.py"
    "::test_a_filter_whose_requirement_cannot_be_read_is_named",
    # Code.
    "a payload of another Python": "tests/e2e/test_functions.py"
    "::test_payloads_of_another_python_are_refused_with_both_versions_named",
    "a pipe among the files": f"{FILES}::test_a_pipe_or_device_is_refused_without_opening_it",
    "too many files": f"{FILES}::test_too_many_files_are_refused_with_the_folder_that_has_most",
    "200 names that lead out": "tests/unit/execution/test_hostile_names.py"
    "::test_a_hostile_name_is_refused_and_nothing_is_written",
    "a link that is put there meanwhile": "tests/unit/execution/test_hostile_names.py"
    "::test_a_link_that_is_swapped_in_meanwhile_is_not_followed",
    "a sender that checks nothing": f"{BUNDLES}"
    "::test_a_sender_that_checks_nothing_is_refused_when_it_is_decoded",
    "a blob that is not what it is called": f"{BUNDLES}"
    "::test_a_blob_that_is_not_what_it_is_called_is_refused",
    "arguments that cannot be loaded there": f"{ENDINGS}"
    "::test_arguments_that_cannot_be_unpickled_are_named",
    # The run API raises nothing into a training.
    "arguments of the run API": "tests/unit/execution/test_spool.py"
    "::test_all_arguments_may_be_wrong",
    "a disk without room for what the run API tells": "tests/unit/execution/test_spool.py"
    "::test_a_full_disk_raises_nothing_and_is_told_later",
    # Output.
    "more output than is kept": "tests/integration/execution/test_pipelines.py"
    "::test_a_flood_of_output_is_cut_with_one_notice",
    "output that there cannot be": "tests/e2e/test_logs.py"
    "::test_output_that_cannot_be_is_refused_by_name",
    # Devices.
    "a GPU that failed": "tests/e2e/test_gpus.py::test_nothing_is_placed_on_a_gpu_that_failed",
    "a GPU that somebody else took": "tests/e2e/test_gpus.py"
    "::test_a_gpu_that_was_taken_since_the_last_look_is_not_started_on",
    # Control.
    "limits of the operator": "tests/integration/execution/test_limits.py"
    "::test_limits_hold_for_a_job_and_what_it_starts",
    "a limit that cannot be": "tests/integration/execution/test_limits.py"
    "::test_a_limit_that_cannot_be_is_refused",
    "pauses that cannot be": "tests/e2e/cli/test_pauses.py::test_who_cannot_pause_says_why",
    "retries that cannot be": "tests/integration/client/test_arrays.py"
    "::test_what_cannot_be_done_again_is_refused_with_a_reason",
    # Several processes.
    "a rank that dies": "tests/e2e/test_ranks.py::test_the_first_dead_rank_ends_all",
    "a pause of a gang": "tests/e2e/test_gangs.py"
    "::test_a_pause_of_a_gang_is_refused_and_disturbs_no_rank",
    "a gang larger than the farm": "tests/e2e/test_gangs.py"
    "::test_a_gang_larger_than_the_farm_is_refused",
    # Secrets.
    "a secret that is removed before the start": "tests/e2e/test_secrets.py"
    "::test_a_secret_that_is_removed_before_the_start_is_named_with_the_way_out",
    "a secret that is too short": "tests/e2e/test_secrets.py"
    "::test_names_are_listed_and_secrets_removed",
    # The command line.
    "wrong words in the shell": "tests/e2e/cli/test_wrong_input.py"
    "::test_wrong_input_is_one_line_and_an_exit_code",
}
"""What another test shows, for it needs other machines, or a sender that breaks our rules."""
