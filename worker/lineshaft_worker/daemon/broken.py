"""How a daemon ends that met a bug of ours."""


class BrokenDaemonError(RuntimeError):
    """A bug of ours was met; what runs goes on, and the next daemon takes it over."""

    def __init__(self) -> None:
        super().__init__("the worker met a bug of its own; the log says more")
