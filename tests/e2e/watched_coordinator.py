"""A coordinator that says how many jobs its clients watch: writes it to a file on SIGUSR1.

Arguments: the file, then those of the coordinator.
"""

import os
import signal
import sys
from functools import wraps
from pathlib import Path
from typing import Any

from lineshaft_coordinator.__main__ import main
from lineshaft_coordinator.core.machine import CoordinatorCore


def tell_on_signal(path: Path) -> None:
    cores: list[CoordinatorCore] = []
    construct = CoordinatorCore.__init__

    @wraps(construct)
    def remembered(self: CoordinatorCore, *arguments: Any, **named: Any) -> None:
        construct(self, *arguments, **named)
        cores.append(self)

    def tell(*_: object) -> None:
        counts = [len(client.watched) for core in cores for client in core.shop.clients.values()]
        partial = path.with_suffix(".part")
        partial.write_text(str(sum(counts)))
        partial.replace(path)

    CoordinatorCore.__init__ = remembered  # type: ignore[method-assign]
    signal.signal(signal.SIGUSR1, tell)


if __name__ == "__main__":
    tell_on_signal(Path(sys.argv[1]))
    assert os.environ["LINESHAFT_HOME"], "a farm has a home of its own"
    sys.exit(main(sys.argv[2:]))
