"""Turning SIGTERM and SIGINT into one orderly stop."""

import asyncio
import logging
import os
import signal
from collections.abc import Generator
from contextlib import contextmanager

logger = logging.getLogger(__name__)

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def stop_on_signals() -> Generator[asyncio.Event]:
    """Give an event that the first SIGTERM or SIGINT sets; the second signal ends the process.

    Enter it in the main thread, inside the running loop. The handlers found on entry are
    back in place on exit.

    Example:
        with stop_on_signals() as stopping:
            await stopping.wait()
    """
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()

    def on_signal(number: signal.Signals) -> None:
        if stopping.is_set():
            _die_of(number)
        logger.info("stopping; a second signal stops at once", extra={"signal": number.name})
        stopping.set()

    handlers_before = {number: signal.getsignal(number) for number in _STOP_SIGNALS}
    for number in _STOP_SIGNALS:
        loop.add_signal_handler(number, on_signal, number)
    try:
        yield stopping
    finally:
        for number, handler_before in handlers_before.items():
            loop.remove_signal_handler(number)
            # None: the handler was installed by C code and cannot be put back from here.
            if handler_before is not None:
                signal.signal(number, handler_before)


def _die_of(number: signal.Signals) -> None:
    # Not sys.exit: whoever pressed Ctrl-C twice does not want to wait for anything, and the
    # parent process should see which signal it was.
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
