"""Lines that overwrite themselves, as a terminal shows them in the end."""

import pytest

from lineshaft_runtime.terminal_lines import as_seen, open_line


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        ("plain  ", "plain  "),
        ("\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m"),
        ("from Windows\r", "from Windows"),
        ("\r 0%|   |\r50%|#  |\r100%|###| 3/3", "100%|###| 3/3"),
        ("a long one\rshort", "shortg one"),
        ("a long one\r\x1b[Kshort", "short"),
        ("\rtwo bars\x1b[A\rthe last", "the last"),
        ("100%|###|\r         \r", ""),
    ],
)
def test_of_a_line_that_overwrites_itself_the_last_state_is_seen(line: str, seen: str) -> None:
    assert as_seen(line) == seen


def test_an_endless_bar_takes_no_room_however_long_it_goes_on() -> None:
    line = ""
    for step in range(10_000):
        line = open_line(f"{line}\r{step:>5} of 10000")

    assert len(line) < 40
    assert as_seen(line) == " 9999 of 10000"
