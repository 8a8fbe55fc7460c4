"""`override` for runners: to import typing_extensions takes a quarter of their start."""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

__all__ = ["override"]

if TYPE_CHECKING:
    from typing_extensions import override
else:
    MethodT = TypeVar("MethodT", bound=Callable[..., object])

    def override(method: MethodT) -> MethodT:
        """Say to type checkers that a method replaces one of a class above."""
        return method
