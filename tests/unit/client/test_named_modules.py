"""Which modules a function and its arguments cannot be loaded without: those that are sure."""

from collections.abc import Callable

import cloudpickle
import numpy as np
import psutil
import pytest

from lineshaft.options import Options
from lineshaft.shipping import Shipper


def uses_global() -> object:
    return np.arange(3)


def names_only_an_attribute(thing: object) -> object:
    # `psutil` is a global of this module, and here a name of something else.
    return thing.psutil  # type: ignore[attr-defined]


def imports_late() -> object:
    import yaml  # noqa: PLC0415 - as functions of users do

    return yaml


def uses_another() -> object:
    return uses_global()


def plain() -> None: ...


@pytest.mark.parametrize(
    ("function", "arguments", "modules"),
    [
        (plain, (), None),
        (plain, (1, "two", None, 3.0), None),
        (uses_global, (), ("numpy",)),
        (uses_another, (), ("numpy",)),
        (plain, ([np.zeros(3)],), ("numpy",)),
        (uses_global, (psutil.Process,), ("numpy", "psutil")),
        (cloudpickle.dumps, (), None),
        # What is not sure to be loaded.
        (names_only_an_attribute, (1,), None),
        (imports_late, (), None),
    ],
)
def test_what_is_sure_to_be_loaded_is_named(
    function: Callable[..., object], arguments: tuple[object, ...], modules: tuple[str, ...] | None
) -> None:
    shipper = Shipper()

    first = shipper.call(function, arguments, {}, Options())
    again = shipper.call(function, arguments, {}, Options())

    assert (first.spec.modules, again.spec.modules) == (modules, modules)
