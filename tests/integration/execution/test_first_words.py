"""What a runner says before its daemon looks at it belongs to the runner's first attempt."""

import asyncio
from pathlib import Path
from typing import cast

from tests.integration.execution.execution_bench import until

from lineshaft_worker.execution.host import Host, HostOwner
from lineshaft_worker.execution.orders import Shape
from lineshaft_worker.execution.process import STDERR, Launch, RunnerProcess


class Witness:
    """Is only told that no process of the runner is left."""

    def __init__(self) -> None:
        self.saw_it_go = asyncio.Event()

    def on_gone(self, _host: Host) -> None:
        self.saw_it_go.set()


async def test_words_of_a_failed_start_count_however_late_the_daemon_looks(tmp_path: Path) -> None:
    witness = Witness()
    process = RunnerProcess.spawn(tmp_path, Launch(Path("/no/such/python")), Shape())
    await until(lambda: "/no/such/python" in (tmp_path / STDERR).read_text())

    host = Host(process, Shape(), cast("HostOwner", witness))
    await witness.saw_it_go.wait()

    assert host.ends == [0, 0, 0]
    said = host.streams.last_lines(host.ends, host.streams.sizes())
    assert "/no/such/python" in "".join(said)


async def test_words_that_an_earlier_daemon_saw_are_not_said_again(tmp_path: Path) -> None:
    witness = Witness()
    (tmp_path / STDERR).write_text("of an earlier attempt\n")

    process = RunnerProcess.ended(tmp_path)
    host = Host(process, Shape(), cast("HostOwner", witness), is_adopted=True)
    await witness.saw_it_go.wait()

    assert host.ends == host.streams.sizes() == [0, 0, len("of an earlier attempt\n")]
