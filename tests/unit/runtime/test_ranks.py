"""What a rank is told of its place, which devices it sees, and how its output is passed on."""

import os

import pytest

from lineshaft_worker.runner.rank_output import LINE_BYTES_MAX, RankStream
from lineshaft_worker.runner.ranks import variables_of


def test_the_second_rank_of_the_second_worker_is_the_fourth_of_four() -> None:
    told = variables_of({"GROUP_RANK": "1", "GROUP_WORLD_SIZE": "2", "RANK": "1"}, 1, 2)

    assert told == {
        "RANK": "3",
        "WORLD_SIZE": "4",
        "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "2",
        "GROUP_RANK": "1",
        "GROUP_WORLD_SIZE": "2",
        "OMP_NUM_THREADS": "1",
    }


def test_a_count_of_threads_that_somebody_set_stays() -> None:
    assert "OMP_NUM_THREADS" not in variables_of({"OMP_NUM_THREADS": "4"}, 0, 2)


@pytest.mark.parametrize(
    ("devices", "count", "shares"),
    [
        ("a,b", 2, ["a", "b"]),
        ("a,b,c,d", 2, ["a,b", "c,d"]),
        ("a", 2, ["a", "a"]),
        ("a,b", 4, ["a", "a", "b", "b"]),
        ("a", 1, ["a"]),
    ],
)
def test_ranks_have_equal_shares_of_the_devices(
    devices: str, count: int, shares: list[str]
) -> None:
    given = {"CUDA_VISIBLE_DEVICES": devices}

    found = [variables_of(given, local, count)["CUDA_VISIBLE_DEVICES"] for local in range(count)]

    assert found == shares


def test_without_devices_a_rank_goes_on_seeing_none() -> None:
    assert "CUDA_VISIBLE_DEVICES" not in variables_of({"CUDA_VISIBLE_DEVICES": ""}, 0, 2)


class Passed:
    """A stream of rank 3, and what it passed on."""

    def __init__(self) -> None:
        self._target = os.memfd_create("passed")
        self.stream = RankStream(3, self._target)

    def after(self, *pieces: bytes) -> bytes:
        for piece in pieces:
            os.write(self.stream.end, piece)
            self.stream.pass_on()
        os.close(self.stream.end)
        self.stream.finish()
        with os.fdopen(self._target, "rb") as file:
            file.seek(0)
            return file.read()


def test_a_line_that_comes_in_pieces_is_passed_on_whole() -> None:
    passed = Passed().after(b"one\ntw", b"o\nthr", b"ee")

    assert passed == b"[rank 3] one\n[rank 3] two\n[rank 3] three\n"


def test_each_state_of_a_bar_is_passed_on() -> None:
    assert Passed().after(b"\r 10%", b"\r 20%\n") == b"[rank 3]  10%\r[rank 3]  20%\n"


def test_what_never_ends_is_passed_on_in_pieces() -> None:
    passed = Passed().after(*[b"x" * 30_000] * 3)

    assert passed.count(b"[rank 3] ") == 1
    assert passed.count(b"x") == 90_000
    assert LINE_BYTES_MAX < 90_000


def test_the_last_lines_are_as_a_terminal_shows_them() -> None:
    passed = Passed()

    passed.after(*[f"line {number}\n".encode() for number in range(30)], b"\n", b" 1%\r 2%\n")

    assert passed.stream.last_lines()[-2:] == ["line 29", " 2%"]
    assert len(passed.stream.last_lines()) == 20
