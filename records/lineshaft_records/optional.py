"""Libraries that are imported when the first record is read or written, not before.

They have no types, or none that a checker likes: what comes out of them is spelled `Any` in the
few modules that touch them, and nowhere else.
"""

from importlib import import_module
from types import ModuleType
from typing import Any

from lineshaft_records.errors import MissingPartError


def arrow() -> ModuleType:
    """Return pyarrow.

    Raises:
        MissingPartError: It is not installed.
    """
    return _part("pyarrow")


def parquet() -> ModuleType:
    """Return pyarrow.parquet.

    Raises:
        MissingPartError: It is not installed.
    """
    return _part("pyarrow.parquet")


def numbers() -> ModuleType:
    """Return numpy.

    Raises:
        MissingPartError: It is not installed.
    """
    return _part("numpy")


def yaml() -> ModuleType:
    """Return PyYAML.

    Raises:
        MissingPartError: It is not installed.
    """
    return _part("yaml")


def gpus() -> Any:
    """Return pynvml, ready to be asked; None where there is no such library, or no driver."""
    try:
        nvml = import_module("pynvml")
        nvml.nvmlInit()
    except Exception:  # noqa: BLE001 - whatever a driver does, a run is recorded without it
        return None
    return nvml


def _part(module: str) -> ModuleType:
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingPartError("a run record", module) from error
