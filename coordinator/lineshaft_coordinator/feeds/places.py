"""Places in a job's history as viewers write them: ``ATTEMPT.SEQ``."""

from lineshaft_coordinator.feeds.told import Place
from lineshaft_protocol.wire import NUMBER_MAX


class NotAPlaceError(ValueError):
    """A viewer wants to go on from something that is no place."""

    def __init__(self, text: str) -> None:
        super().__init__(
            f"since must be the seq of an earlier message, as 1.42, not {text[:40]!r}; "
            "0.0 is the beginning"
        )


def place_text(place: Place) -> str:
    """Write a place."""
    return f"{place[0]}.{place[1]}"


def parse_place(text: str) -> Place:
    """Read a place.

    Raises:
        NotAPlaceError: It is something else.
    """
    attempt, _, seq = text.partition(".")
    if not (attempt.isdecimal() and seq.isdecimal() and max(len(attempt), len(seq)) <= 16):
        raise NotAPlaceError(text)
    return min(int(attempt), NUMBER_MAX), min(int(seq), NUMBER_MAX)
