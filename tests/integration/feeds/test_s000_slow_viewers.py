"""One viewer who never reads, beside others: by the bytes they get, not by the clock."""

import threading
from collections.abc import Callable

import pytest
from tests.integration.feeds.conductor import Conducted
from tests.integration.feeds.conftest import House


@pytest.mark.parametrize("path", ["/api/training/runs/{}/stream", "/api/v1/jobs/{}/live"])
def test_s000_07_a_viewer_who_never_reads_delays_nobody(
    house: House, conduct: Callable[..., Conducted], path: str
) -> None:
    show = conduct()
    stream = path.format(show.job_id)
    house.look(stream, buffer_bytes=2048)
    others = [house.look(stream) for _ in range(3)]
    found: list[list[int]] = [[] for _ in others]

    def read(number: int) -> None:
        for message in others[number].rest():
            if message["type"] == "metrics":
                found[number].append(message["data"]["step"])

    threads = [threading.Thread(target=read, args=(number,)) for number in range(len(others))]
    for thread in threads:
        thread.start()
    show.do("many", {"first": 1, "last": 30_000, "size": 0})
    show.do("end")
    for thread in threads:
        thread.join(120)

    # All of it, and the job ended, while one took nothing; who reads is never behind the ring.
    assert show.job.result(60) is None
    assert found == [list(range(1, 30_001))] * 3
