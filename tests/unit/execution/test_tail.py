"""Events out of files: in batches that are made again, equal, after a crash."""

from pathlib import Path

from lineshaft_runtime.spool import SpoolWriter
from lineshaft_worker.execution.tail import Event, Streams, Tail
from lineshaft_worker.runner.files import SPOOL, STDERR, STDOUT

MIB = 2**20


def tail_in(folder: Path, begins: list[int] | None = None, cap: int = 10 * MIB) -> Tail:
    return Tail(folder, 1, begins or [0, 0, 0], output_bytes_max=cap)


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def plain(events: list[Event]) -> list[tuple[int, str, object]]:
    return [(seq, kind, dict(body)) for seq, _, kind, body in events]


def test_a_daemon_after_a_crash_makes_the_last_batch_again(tmp_path: Path) -> None:
    writer = SpoolWriter(str(tmp_path / SPOOL))
    streams = Streams(tmp_path)
    tail = tail_in(tmp_path)
    writer.write("progress", {"step": 1})
    first = tail.read(streams, streams.sizes())
    tail.acknowledge(1)
    writer.write("progress", {"step": 2})
    append(tmp_path / STDOUT, b"two\n")
    second = tail.read(streams, streams.sizes())
    writer.write("progress", {"step": 3})
    append(tmp_path / STDOUT, b"three\n")

    after = tail_in(tmp_path)
    repeated = after.read(streams, streams.sizes())
    third = after.read(streams, streams.sizes())

    assert [seq for seq, *_ in first] == [1]
    assert plain(repeated) == plain(second)
    assert plain(third) == [
        (4, "progress", {"step": 3}),
        (5, "log", {"stream": "stdout", "text": "three\n"}),
    ]
    streams.close()


def test_a_daemon_after_a_crash_makes_every_batch_again_that_nobody_acknowledged(
    tmp_path: Path,
) -> None:
    writer = SpoolWriter(str(tmp_path / SPOOL))
    streams = Streams(tmp_path)
    tail = tail_in(tmp_path)
    batches: list[list[Event]] = []
    for step in range(1, 301):
        writer.write("progress", {"step": step})
        append(tmp_path / STDOUT, b"line\n")
        batches.append(tail.read(streams, streams.sizes()))
        if step % 7 == 0 and step <= 280:
            # The coordinator is some batches behind, then gone.
            tail.acknowledge(batches[step - 6][-1][0])

    after = tail_in(tmp_path)
    repeated: list[Event] = []
    while after.is_repeating:
        repeated += after.read(streams, [])

    missing = [event for batch in batches[275:] for event in batch]
    assert plain(repeated)[-len(missing) :] == plain(missing)
    numbers = [seq for seq, *_ in repeated]
    assert numbers == list(range(numbers[0], 601)), "each once, in order, to the last"
    assert len(repeated) < 400, "what was acknowledged is not kept for ever"
    assert after.read(streams, streams.sizes()) == []
    streams.close()


def test_only_the_attempts_own_part_is_read(tmp_path: Path) -> None:
    append(tmp_path / STDERR, b"before|mine|after")
    streams = Streams(tmp_path)

    events = tail_in(tmp_path, [0, 0, 7]).read(streams, [0, 0, 11], is_final=True)

    assert plain(events) == [(1, "log", {"stream": "stderr", "text": "mine"})]
    streams.close()


def test_a_line_that_is_not_whole_waits_and_is_told_of_in_the_end(tmp_path: Path) -> None:
    append(tmp_path / SPOOL, b'{"k":"progress","n":1,')
    streams = Streams(tmp_path)
    tail = tail_in(tmp_path)

    assert tail.read(streams, streams.sizes()) == []
    (event,) = tail.read(streams, streams.sizes(), is_final=True)

    assert event[3]["code"] == "bad_event"
    assert tail.is_at(streams.sizes())
    streams.close()


def test_a_line_without_an_end_does_not_stop_the_tail(tmp_path: Path) -> None:
    append(tmp_path / SPOOL, b"x" * 3 * MIB)
    streams = Streams(tmp_path)
    tail = tail_in(tmp_path)

    rounds = 0
    while not tail.is_at(streams.sizes()):
        tail.read(streams, streams.sizes(), is_final=True)
        rounds += 1
        assert rounds < 100

    streams.close()


def test_bytes_that_are_no_text_are_replaced_and_do_not_stop_the_tail(tmp_path: Path) -> None:
    append(tmp_path / STDOUT, b"\xff\xfe\x80ok\xf0\x9f")
    streams = Streams(tmp_path)
    tail = tail_in(tmp_path)

    first = tail.read(streams, streams.sizes())
    last = tail.read(streams, streams.sizes(), is_final=True)

    assert [event[3]["text"] for event in first + last] == ["\ufffd\ufffd\ufffdok", "\ufffd"]
    assert tail.is_at(streams.sizes())
    streams.close()


def test_output_beyond_the_cap_gives_its_disk_back(tmp_path: Path) -> None:
    append(tmp_path / STDOUT, b"x" * 8 * MIB)
    streams = Streams(tmp_path)
    tail = tail_in(tmp_path, cap=MIB)
    events: list[Event] = []

    while not tail.is_at(streams.sizes()):
        events += tail.read(streams, streams.sizes(), is_final=True)

    assert sum(len(str(event[3]["text"])) for event in events if event[2] == "log") == MIB
    assert [event[3]["code"] for event in events if event[2] == "notice"] == ["output_capped"]
    stat = (tmp_path / STDOUT).stat()
    assert stat.st_size == 8 * MIB
    assert stat.st_blocks * 512 < 4 * MIB
    streams.close()


def test_the_last_lines_are_those_of_stderr_if_it_has_any(tmp_path: Path) -> None:
    append(tmp_path / STDOUT, b"out 1\nout 2\n")
    streams = Streams(tmp_path)
    assert streams.last_lines([0, 0, 0], streams.sizes()) == ("out 1", "out 2")

    append(tmp_path / STDERR, b"".join(b"error %d\n" % number for number in range(30)))

    assert streams.last_lines([0, 0, 0], streams.sizes())[::19] == ("error 10", "error 29")
    streams.close()


def test_the_last_words_stay_though_the_output_was_capped_before(tmp_path: Path) -> None:
    streams = Streams(tmp_path)
    tail = tail_in(tmp_path, cap=1000)
    append(tmp_path / STDOUT, b"x" * 1000)
    tail.read(streams, streams.sizes())
    append(tmp_path / STDERR, b"y" * MIB + b"\nfatal: no such device\n")

    tail.read(streams, streams.sizes())

    assert streams.last_lines([0, 0, 0], streams.sizes())[-1] == "fatal: no such device"
    assert all("\0" not in line for line in streams.last_lines([0, 0, 0], streams.sizes()))
    streams.close()


def test_a_flood_is_never_much_longer_on_the_disk_than_the_cap(tmp_path: Path) -> None:
    streams = Streams(tmp_path)
    tail = tail_in(tmp_path, cap=MIB)
    events: list[Event] = []
    taken_bytes: list[int] = []

    for _ in range(8):
        # Far more than a batch at once, as a job writes it that does nothing else.
        append(tmp_path / STDOUT, b"x" * 8 * MIB)
        append(tmp_path / STDERR, b"y" * 8 * MIB)
        events += tail.read(streams, streams.sizes())
        taken_bytes += [(tmp_path / name).stat().st_blocks * 512 for name in (STDOUT, STDERR)]

    assert max(taken_bytes) < 2 * MIB
    assert sum(len(str(event[3]["text"])) for event in events if event[2] == "log") == MIB
    assert streams.last_lines([0, 0, 0], streams.sizes())[-1].endswith("y")
    streams.close()


def test_a_character_that_stands_across_the_cap_does_not_stop_the_tail(tmp_path: Path) -> None:
    append(tmp_path / STDOUT, "é".encode() * 1000)
    streams = Streams(tmp_path)
    tail = tail_in(tmp_path, cap=1001)

    events: list[Event] = []
    for _ in range(3):
        events += tail.read(streams, streams.sizes(), is_final=True)

    assert tail.is_at(streams.sizes())
    assert [event[3].get("code") for event in events] == [None, "output_capped"]
    streams.close()


def test_what_nobody_acknowledged_is_kept_from_the_first_such_batch(tmp_path: Path) -> None:
    streams = Streams(tmp_path)
    tail = tail_in(tmp_path)
    places = [streams.sizes()]
    for _ in range(3):
        append(tmp_path / STDOUT, b"a line\n")
        tail.read(streams, streams.sizes())
        places.append(streams.sizes())
    append(tmp_path / STDERR, b"not read yet\n")

    assert tail.kept_from() == places[0]
    after = tail_in(tmp_path)
    assert after.kept_from() == places[0]
    for seq in (1, 2, 3):
        tail.acknowledge(seq)
        assert tail.kept_from() == places[seq]
    streams.close()
