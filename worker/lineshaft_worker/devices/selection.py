"""Which of a machine's devices a worker may use: what the operator and the environment allow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lineshaft_protocol.errors import LineshaftError
from lineshaft_worker.devices.gpu import GpuFault, GpuInfo, GpuSurvey

Device = GpuInfo | GpuFault


class UnavailableDeviceError(LineshaftError):
    """A worker was told to use more than its machine has, or something it has not."""

    def __init__(self, kind: str, wanted: str, available: str) -> None:
        super().__init__(
            f"the worker is to use {wanted}, but this machine offers {available};"
            f" ask for less {kind}, or look at what the machine shows its programs"
        )
        self.kind, self.wanted, self.available = kind, wanted, available


@dataclass(frozen=True, slots=True)
class Restrictions:
    """The part of the machine that a worker may use; `None` means all of it."""

    cpus: float | None = None
    """Cores, more than 0."""

    memory_bytes: int | None = None
    gpus: int | Sequence[int | str] | None = None
    """How many (0: none), or which: indexes as `nvidia-smi` counts, UUIDs or their beginnings."""

    tags: Sequence[str] = ()
    """Words to find the worker by, besides those that follow from its devices."""


def visible(survey: GpuSurvey, cuda_visible_devices: str | None) -> GpuSurvey:
    """Apply the environment's `CUDA_VISIBLE_DEVICES`, which no setting of ours may exceed.

    As CUDA reads it: the order counts, the first entry that names no device ends the list, and an
    empty list is no device. Indexes are counted as `nvidia-smi` does, that is with
    `CUDA_DEVICE_ORDER=PCI_BUS_ID`.

    Args:
        survey: What the driver lists.
        cuda_visible_devices: The variable's value; `None` when it is not set.
    """
    if cuda_visible_devices is None:
        return survey
    chosen: list[Device] = []
    for entry in cuda_visible_devices.split(","):
        devices = _named(survey, _entry(entry.strip()))
        if not devices:
            break
        chosen += devices
    return _survey_of(chosen)


def select(survey: GpuSurvey, wanted: int | Sequence[int | str] | None) -> GpuSurvey:
    """Apply the operator's choice. A failing GPU can be chosen: it exists, and may heal.

    A number takes the good GPUs first, so that one broken GPU does not cost a slot.

    Raises:
        UnavailableDeviceError: There are fewer, or there is no such GPU.
    """
    if wanted is None:
        return survey
    everything: list[Device] = [*survey.gpus, *survey.faults]
    if isinstance(wanted, int):
        if not 0 <= wanted <= len(everything):
            raise UnavailableDeviceError("GPUs", f"{wanted} GPUs", describe(survey))
        return _survey_of(everything[:wanted])
    chosen: list[Device] = []
    for entry in wanted:
        devices = _named(survey, entry)
        if not devices:
            raise UnavailableDeviceError("GPUs", f"GPU {entry}", describe(survey))
        chosen += devices
    return _survey_of(chosen)


def limited(wanted: float | None, available: float, *, kind: str, unit: str) -> float:
    """Return the smaller of what is wanted and what there is.

    Raises:
        UnavailableDeviceError: More is wanted than there is, or nothing at all.
    """
    if wanted is None:
        return available
    if not 0 < wanted <= available:
        raise UnavailableDeviceError(kind, f"{wanted:.15g} {unit}", f"{available:.15g} {unit}")
    return wanted


def describe(survey: GpuSurvey) -> str:
    """Name all devices, for a message to a person."""
    good = [f"{gpu.index}: {gpu.name} ({gpu.uuid})" for gpu in survey.gpus]
    bad = [f"{fault.index}: failing, {fault.reason}" for fault in survey.faults]
    return "; ".join([*good, *bad]) or "no GPU"


def _entry(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdigit() else text


def _named(survey: GpuSurvey, entry: int | str) -> list[Device]:
    everything: list[Device] = [*survey.gpus, *survey.faults]
    if isinstance(entry, int):
        return [device for device in everything if device.index == entry]
    if not entry.startswith(("GPU-", "MIG-")):
        return []
    # A whole GPU that was cut into instances stands for all of them.
    exact = [gpu for gpu in survey.gpus if entry in (gpu.uuid, gpu.parent_uuid)]
    begun = [device for device in everything if (device.uuid or "").startswith(entry)]
    if exact or len(begun) == 1:
        return [*exact] or begun
    # A GPU that failed before it told its UUID may be the one that is meant.
    return [fault for fault in survey.faults if fault.uuid is None] if not begun else []


def _survey_of(devices: Sequence[Device]) -> GpuSurvey:
    unique = list(dict.fromkeys(devices))
    return GpuSurvey(
        tuple(device for device in unique if isinstance(device, GpuInfo)),
        tuple(device for device in unique if isinstance(device, GpuFault)),
    )
