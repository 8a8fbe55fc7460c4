import asyncio
import os
import signal
import subprocess
import sys

from lineshaft_runtime.stopping import stop_on_signals

WAITING = """
import asyncio
from lineshaft_runtime.stopping import stop_on_signals

async def main():
    with stop_on_signals() as stopping:
        print("ready", flush=True)
        await stopping.wait()
        print("stopping", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_the_first_signal_sets_the_event() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        with stop_on_signals() as stopping:
            assert not stopping.is_set()
            os.kill(os.getpid(), number)
            await asyncio.wait_for(stopping.wait(), 5)


async def test_the_handlers_of_before_are_back_afterwards() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]

    with stop_on_signals():
        during = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]

    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
    assert during != before


def test_the_second_signal_ends_the_process_at_once() -> None:
    with subprocess.Popen([sys.executable, "-c", WAITING], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == b"stopping\n"

        process.send_signal(signal.SIGTERM)

        assert process.wait(10) == -signal.SIGTERM
