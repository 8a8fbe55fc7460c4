"""Which functions a runner has been sent and still keeps."""

from collections import OrderedDict
from typing import Generic, TypeVar

CODES_MAX = 64

_Item = TypeVar("_Item")


class CodeShelf(Generic[_Item]):
    """The functions used last; the one not used for longest goes first.

    Daemon and runner each have one and touch it in the order in which Execute frames are sent and
    received, so the daemon knows without asking what the runner still has.
    """

    def __init__(self) -> None:
        self._items: OrderedDict[str, _Item] = OrderedDict()

    def get(self, code_id: str) -> _Item | None:
        """Return what is kept under the id, and count this as a use."""
        item = self._items.get(code_id)
        if item is not None:
            self._items.move_to_end(code_id)
        return item

    def put(self, code_id: str, item: _Item) -> None:
        """Keep an item, as the one used last."""
        self._items[code_id] = item
        self._items.move_to_end(code_id)
        if len(self._items) > CODES_MAX:
            self._items.popitem(last=False)
