"""A stand-in for upstream's module `soma`, so that pickled filters of its users can be loaded.

Such a filter derives from `soma.filter.Filter`, and its pickle names that class, its metaclass and
`soma.filter.search`. The stand-in has these and nothing else: enough to call `fit` and `forward`.
Only a runner installs it, and only where the real package is missing.
"""

import importlib.util
import sys
from types import ModuleType
from typing import ClassVar

from lineshaft_runtime.overriding import override


class FilterMeta(type):
    """The metaclass under which filters are rebuilt; it adds nothing."""


class Filter(metaclass=FilterMeta):
    """The base of upstream's filters."""

    _kind: ClassVar[str] = "trainable"
    _cacheable: ClassVar[bool] = True
    _differentiable: ClassVar[bool] = False
    _stream_mode: ClassVar[str] = "fixed"

    def fit(self, x: object, y: object = None) -> object:
        """Learn nothing; a filter that learns has a `fit` of its own."""
        del x, y
        return {}

    def forward(self, x: object, state: object) -> object:
        """Refuse: a filter has a `forward` of its own."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")


class Search:
    """The range of a hyperparameter, as written in a class body."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        self.args, self.kwargs = args, kwargs

    @override
    def __repr__(self) -> str:
        return f"search({self.args}, {self.kwargs})"


def search(*args: object, **kwargs: object) -> Search:
    """Describe the range of a hyperparameter."""
    return Search(*args, **kwargs)


def install() -> None:
    """Make `import soma` and `import soma.filter` work, unless the real package is there."""
    if "soma" in sys.modules or importlib.util.find_spec("soma") is not None:
        return
    package, filter_module = ModuleType("soma", __doc__), ModuleType("soma.filter", __doc__)
    package.__path__ = []
    for module in (package, filter_module):
        for each in (Filter, FilterMeta, search):
            setattr(module, each.__name__, each)
    setattr(package, "filter", filter_module)  # noqa: B010 - a module's type has no such name
    sys.modules["soma"], sys.modules["soma.filter"] = package, filter_module
