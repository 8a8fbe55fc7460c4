"""Records a run from the process that does it, without a coordinator.

What is told goes into a spool file, one `write(2)` a call; a keeper, a process of its own, brings
it into the files of the record. So a call costs some microseconds whatever the disk or the keeper
does, and a run whose process is killed is complete and says CRASHED: the keeper sees it end.
"""

import atexit
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

from lineshaft_records.documents import (
    RunInfo,
    make_experiment,
    merge_config,
    write_info,
)
from lineshaft_records.encoding import image_file
from lineshaft_records.errors import RunExistsError
from lineshaft_records.histograms import BINS, histogram_body
from lineshaft_records.launches import Launch
from lineshaft_records.layout import RunFolder, default_run_name, run_folder
from lineshaft_records.media import keep_media
from lineshaft_records.provenance import write_provenance
from lineshaft_records.rows import whole_step
from lineshaft_records.tee import Tee
from lineshaft_records.text_logs import Level, append_text, log_line
from lineshaft_runtime.spool import SpoolWriter

CLOSE_WAIT_S: Final = 5.0
FLUSH_WAIT_S: Final = 5.0
FLUSH_ROWS: Final = 50
FLUSH_MS: Final = 500
SYSTEM_S: Final = 15.0
POLL_S: Final = 0.005
REASON_CHARACTERS_MAX: Final = 400
EndStatus = Literal["FINISHED", "FAILED", "CRASHED"]


class Run:
    """One run of an experiment, recorded while it goes.

    Its files are there when this returns. As a context manager it ends as FAILED on an exception;
    so it does when the interpreter ends by one. Killed, it is CRASHED.

    Args:
        experiment: Name of the experiment; a folder below `base`.
        name: Name of the run; if None what `EXPMAN_RUN_NAME` says, `GROUP-rankN` under a launcher
            of several processes, else local time, as `20261121_221913`.
        base: Where experiments lie; `EXPMAN_BASE_DIR`, which a sweep sets, comes before it.
        tags: Labels, as `baseline` or `arm:tiered`.
        description: Free text.
        flush_rows: Rows after which the keeper brings them into their file.
        flush_ms: Milliseconds after which it does so anyway.
        system_s: After how many seconds it is noted again how busy machine and GPUs are; 0: never.
        console: Whether what is printed is copied to console.log.
        provenance: Whether command, host and git commit are kept in provenance.yaml.
        diff: Whether it also says how files differ from the commit, 256 KiB of that at most. Not
            unless you say so: what is not committed may be secret.

    Raises:
        BadNameError: A name cannot be that of a folder.
        RunExistsError: There is a run of this name.
        OSError: The folder cannot be written.
    """

    def __init__(  # noqa: PLR0913 - each by its name
        self,
        experiment: str,
        name: str | None = None,
        *,
        base: str | os.PathLike[str] = "experiments",
        tags: tuple[str, ...] | list[str] = (),
        description: str | None = None,
        flush_rows: int = FLUSH_ROWS,
        flush_ms: int = FLUSH_MS,
        console: bool = True,
        system_s: float = SYSTEM_S,
        provenance: bool = True,
        diff: bool = False,
    ) -> None:
        self._closed = False
        self._flush = (flush_rows, flush_ms, system_s)
        self._pid = os.getpid()
        launch = Launch.of(os.environ)
        self.folder = _made(Path(launch.base or base), experiment, name, launch)
        info = RunInfo(
            name=self.folder.name,
            experiment=experiment,
            started_at=datetime.now(UTC),
            description=description,
            tags=tuple(dict.fromkeys([*launch.tags, *tags])),
            group=launch.group,
            rank=launch.rank,
            env_path=sys.executable,
        )
        self.folder.artifacts.mkdir()
        self.folder.live.mkdir()
        write_info(self.folder, info)
        self._spool = SpoolWriter(str(self.folder.spool))
        self._spool.write("begin", {})
        self._keep_launch(launch)
        if provenance:
            self._keep_provenance(diff=diff)
        self._keeper = self._started_keeper()
        self._tees = self._captured() if console else ()
        atexit.register(self._at_exit)

    @property
    def path(self) -> Path:
        """The folder of the run."""
        return self.folder.path

    def log_metrics(self, metrics: Mapping[str, object], step: int | None = None) -> None:
        """Record numbers or texts by name. Never raises or waits; ignored once the run is closed.

        Args:
            metrics: NaN and infinities are kept; array scalars and tensors become numbers.
            step: Where the run is; rows without one are kept, too.
        """
        if not self._closed:
            self._spool.write("metrics", {"metrics": metrics, "step": step})

    def log_histogram(
        self,
        tag: str,
        values: object = None,
        step: int | None = None,
        *,
        bins: int = BINS,
        edges: Iterable[float] | None = None,
        counts: Iterable[int] | None = None,
    ) -> None:
        """Record how values are distributed; see `histogram_body` for the arguments.

        Raises:
            ValueError: Edges and counts do not fit, or there are too many.
            TypeError: These are no numbers.
        """
        if not self._closed:
            body = histogram_body(tag, values, step=step, bins=bins, edges=edges, counts=counts)
            self._spool.write("histogram", body)

    def log_image(self, tag: str, image: object, step: int | None = None) -> None:
        """Keep a picture: bytes of one, a path, a figure, a picture of Pillow or an array.

        Raises:
            TypeError: It is none of that.
            ValueError: An array has not 1 to 4 channels.
            OSError: The path cannot be read.
        """
        if not self._closed:
            data, extension = image_file(image)
            self._keep_media(tag, data, step, extension)

    def log_figure(self, tag: str, figure: object, step: int | None = None) -> None:
        """Keep a figure of Matplotlib as a picture; raises as `log_image`."""
        self.log_image(tag, figure, step)

    def log_audio(
        self, tag: str, data: bytes, step: int | None = None, extension: str = "wav"
    ) -> None:
        """Keep a file of sound, by its bytes.

        Raises:
            ValueError: That is no extension.
        """
        self._keep_media(tag, data, step, extension)

    def log_video(
        self, tag: str, data: bytes, step: int | None = None, extension: str = "mp4"
    ) -> None:
        """Keep a film, by its bytes.

        Raises:
            ValueError: That is no extension.
        """
        self._keep_media(tag, data, step, extension)

    def log_params(self, params: Mapping[str, object]) -> None:
        """Add parameters to config.yaml; of two with one name the later wins, nested ones stay so.

        Raises:
            OSError: It cannot be written.
        """
        if not self._closed:
            merge_config(self.folder, params)

    def save_artifact(self, path: str | os.PathLike[str]) -> None:
        """Have a file or folder copied below artifacts/, in the background.

        Args:
            path: A relative one keeps its folders, an absolute one only its name. What is missing
                is told in run.log; a name that is taken by another content gets a number.
        """
        if self._closed:
            return
        name = os.fspath(path)
        self._spool.write("artifact", {"name": name, "path": str(Path(name).absolute())})

    def info(self, text: str) -> None:
        """Add a line to run.log."""
        self._say("INFO", text)

    def warn(self, text: str) -> None:
        """Add a warning to run.log."""
        self._say("WARN", text)

    def error(self, text: str) -> None:
        """Add an error to run.log."""
        self._say("ERROR", text)

    def flush(self, timeout_s: float = FLUSH_WAIT_S) -> bool:
        """Wait until all that was told is in the files of the record; returns whether it is."""
        if self._closed:
            return True
        self._spool.write("flush", {})
        told = self.folder.spool.stat().st_size
        mark = self.folder.live / "kept"

        def is_kept() -> bool:
            try:
                return int(mark.read_text() or 0) >= told
            except (OSError, ValueError):
                return False

        return self._wait(is_kept, timeout_s)

    def close(self, status: EndStatus = "FINISHED", reason: str | None = None) -> None:
        """End the run. Returns once its files are complete, or after 5 s; the rest goes on then.

        Args:
            status: How it ended.
            reason: Why, as a line of run.log.
        """
        if self._closed or os.getpid() != self._pid:
            return  # A forked child ends; the run goes on.
        if status != "FINISHED":
            self._say("ERROR", f"run {status}: {reason or 'no reason given'}")
        elif reason:
            self._say("INFO", reason)
        self._closed = True
        for tee in self._tees:
            tee.restore()
        self._spool.write("close", {"status": status})
        atexit.unregister(self._at_exit)
        if self._wait(lambda: not self.folder.live.exists(), CLOSE_WAIT_S):
            with suppress(subprocess.TimeoutExpired):
                self._keeper.wait(CLOSE_WAIT_S)
                return
        # It goes on alone. Somebody must take note of its end, or Python warns that it was left;
        # a program that is at its own end cannot start a thread, and leaves nobody to warn.
        with suppress(RuntimeError):
            threading.Thread(target=self._keeper.wait, daemon=True).start()

    def fail(self, reason: str | None = None) -> None:
        """End the run as one that failed."""
        self.close("FAILED", reason)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            self.close("FAILED", _told(error))

    def __repr__(self) -> str:
        return f"<Run {self.folder.experiment}/{self.folder.name}>"

    def _keep_launch(self, launch: Launch) -> None:
        """Keep what a sweep chose; what of it cannot be kept is told, for the program goes on."""
        for name in launch.unreadable:
            self._say("WARN", f"the variable {name} is no UTF-8: what is none is kept as \ufffd")
        if not launch.params:
            return
        try:
            merge_config(self.folder, launch.params)
        except (OSError, ValueError) as error:
            self._say("WARN", f"the parameters of the sweep could not be kept: {error}")

    def _keep_provenance(self, *, diff: bool) -> None:
        try:
            write_provenance(self.folder, os.environ, diff=diff)
        except (OSError, ValueError) as error:  # No folder to be in, words that are no text.
            self._say("WARN", f"where it comes from could not be kept: {error}")

    def _keep_media(self, tag: str, data: bytes, step: int | None, extension: str) -> None:
        if self._closed:
            return
        try:
            keep_media(self.folder, tag, data, step=whole_step(step), extension=extension)
        except OSError as error:  # As below.
            self._say("WARN", f"{tag} could not be kept: {error.strerror or error}")

    def _say(self, level: Level, text: str) -> None:
        if self._closed:
            return
        with suppress(OSError):  # A full disk must not end who trains.
            append_text(self.folder.log, log_line(time.time(), level, text))

    def _started_keeper(self) -> subprocess.Popen[bytes]:
        rows, ms, system_s = self._flush
        flags = ["--flush-rows", str(rows), "--flush-ms", str(ms), "--system-s", str(system_s)]
        with (self.folder.live / "keeper.log").open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - a module of ours
                [
                    sys.executable,
                    "-m",
                    "lineshaft_records.keeper",
                    str(self.folder.path.absolute()),
                    "--pid",
                    str(self._pid),
                    *flags,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for who trains.
            )

    def _captured(self) -> tuple[Tee, ...]:
        return (Tee("stdout", self.folder.console), Tee("stderr", self.folder.console))

    def _wait(self, is_done: Callable[[], bool], timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while not is_done():
            if time.monotonic() > deadline:
                return False
            if self._keeper.poll() is not None and self.folder.live.exists():
                # Somebody killed it: the next one goes on where it was.
                self._keeper = self._started_keeper()
            time.sleep(POLL_S)
        return True

    def _at_exit(self) -> None:
        error = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
        if isinstance(error, BaseException):
            self.close("FAILED", _told(error))
        else:
            self.close()


def _made(base: Path, experiment: str, name: str | None, launch: Launch) -> RunFolder:
    """Make the folder of a run, and its experiment's."""
    own = launch.run_name or default_run_name(datetime.now().astimezone())
    chosen = name if name is not None else own
    folder = run_folder(base, experiment, chosen)
    make_experiment(folder.path.parent, project=launch.project)
    number = 1
    while True:
        try:
            folder.path.mkdir()
        except FileExistsError as error:
            if name is not None:
                raise RunExistsError(folder.path) from error
            number += 1  # Two runs began in one second.
            folder = run_folder(base, experiment, f"{chosen}-{number}")
        else:
            return folder


def _told(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:REASON_CHARACTERS_MAX].rstrip(": ")
