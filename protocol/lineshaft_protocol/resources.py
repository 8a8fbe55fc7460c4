"""What a job asks for and what a worker offers."""

from pydantic import Field

from lineshaft_protocol.wire import NUMBER_MAX, Wire

GIB = 1024**3


class Resources(Wire):
    """What one attempt occupies on a worker, besides one of its slots."""

    cpus: float = Field(default=0.0, ge=0, le=4096)
    """Processor cores; 0 means that the slot alone decides."""
    memory_bytes: int = Field(default=0, ge=0, le=NUMBER_MAX)
    gpus: int = Field(default=0, ge=0, le=1024)
    """Whole GPUs, or GPUs shared by memory when ``gpu_memory_bytes`` is given."""
    gpu_memory_bytes: int = Field(default=0, ge=0, le=NUMBER_MAX)
    """Memory wanted on each GPU; 0 means the whole GPU for this job alone."""

    def __str__(self) -> str:
        parts = [
            f"{self.cpus:g} CPUs" if self.cpus else "",
            f"{self.memory_bytes / GIB:.3g} GiB of memory" if self.memory_bytes else "",
            f"{self.gpus} GPU{'s' if self.gpus != 1 else ''}" if self.gpus else "",
            f"{self.gpu_memory_bytes / GIB:.3g} GiB on each GPU" if self.gpu_memory_bytes else "",
        ]
        return ", ".join(part for part in parts if part) or "one slot"


class Gpu(Wire):
    """One device of a worker."""

    uuid: str
    name: str
    memory_bytes: int = Field(ge=0, le=NUMBER_MAX)
    fault: str | None = None
    """Why nothing may be placed on it; ``None`` when it is healthy."""


class Capacity(Wire):
    """What a worker offers in all, after the restrictions its operator set."""

    slots: int = Field(ge=1, le=65536)
    """How many attempts may run at once."""
    cpus: float = Field(gt=0)
    memory_bytes: int = Field(ge=0, le=NUMBER_MAX)
    gpus: tuple[Gpu, ...] = ()

    @property
    def healthy_gpus(self) -> tuple[Gpu, ...]:
        """The devices on which work may be placed."""
        return tuple(gpu for gpu in self.gpus if gpu.fault is None)

    def __str__(self) -> str:
        text = f"{self.slots} slots, {self.cpus:g} CPUs, {self.memory_bytes / GIB:.3g} GiB"
        if not self.gpus:
            return f"{text}, no GPU"
        return f"{text}, {len(self.gpus)} GPUs ({', '.join(sorted({g.name for g in self.gpus}))})"
