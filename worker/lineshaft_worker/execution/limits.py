"""Limits that the kernel keeps for every process of a job, as the operator set them."""

import resource
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lineshaft_runtime.sizes import SizeError, parse_size
from lineshaft_worker.execution.process import Launch

KINDS = {
    "files": resource.RLIMIT_NOFILE,
    "processes": resource.RLIMIT_NPROC,
    "file-size": resource.RLIMIT_FSIZE,
}
"""What may be limited, by the name of its flag."""


@dataclass(frozen=True, slots=True)
class JobLimits:
    """What each process of a job may have at most; None: what the daemon may."""

    files: int | None = None
    """Open files."""
    processes: int | None = None
    """Processes and threads of the worker's user, with those that are no job's."""
    file_size: int | None = None
    """Bytes in one file."""

    @classmethod
    def parse(cls, texts: Sequence[str]) -> "JobLimits":
        """Read `NAME=VALUE`, as `files=4096` or `file-size=20GiB`.

        Raises:
            ValueError: There is no such limit, it is no number above 0, or the daemon has less.
        """
        found: dict[str, int] = {}
        for text in texts:
            name, _, value = text.partition("=")
            if name not in KINDS:
                raise ValueError(f"--limit {text}: there are {', '.join(KINDS)}, as files=4096")
            try:
                number = parse_size(value) if name == "file-size" else int(value)
            except (SizeError, ValueError):
                number = 0
            if number <= 0:
                raise ValueError(f"--limit {text}: {value!r} is not a number above 0")
            _, most = resource.getrlimit(KINDS[name])
            if most != resource.RLIM_INFINITY and number > most:
                raise ValueError(f"--limit {text}: this process itself may have {most} at most")
            found[name.replace("-", "_")] = number
        return cls(**found)

    def settings(self) -> tuple[tuple[int, int], ...]:
        """Return numbers of the kernel's and their values; there are no core dumps in any case."""
        values = (self.files, self.processes, self.file_size)
        chosen = tuple((k, v) for k, v in zip(KINDS.values(), values, strict=True) if v is not None)
        return ((resource.RLIMIT_CORE, 0), *chosen)

    def on(self, interpreter_of: Callable[[str], Launch]) -> Callable[[str], Launch]:
        """Return the same, with these limits."""
        return lambda environment: interpreter_of(environment)._replace(limits=self.settings())
