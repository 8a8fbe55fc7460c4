"""The numbers of a Python job: the last JSON document that it printed."""

import json
from typing import Final, NoReturn

from pydantic import JsonValue

CHARACTERS_MAX: Final = 512 * 1024
"""Only so much of the end of a text is looked at; it takes seconds at worst."""


def last_document(text: str) -> JsonValue:
    """Return the last JSON document that has its lines for itself; ``{}`` if there is none.

    Upstream takes the last *line* that is JSON, and so the last number of an indented object.
    """
    text = text[max(0, len(text) - CHARACTERS_MAX) :]
    found: JsonValue = {}
    position = effort = 0
    while position < len(text):
        start, position = position, text.find("\n", position) + 1 or len(text) + 1
        line = text[start : position - 1]
        if line.lstrip()[:1] not in _BEGINNINGS:
            continue
        try:
            found = _whole(line)
            continue
        except json.JSONDecodeError as error:
            # Only what stops at the end of its line may go on in the next one.
            is_cut = error.pos >= len(line.rstrip())
        except (ValueError, RecursionError):
            is_cut = False
        # Each line may begin a document that never ends: not each is searched for its end.
        if not is_cut or effort > _EFFORT * len(text):
            continue
        start += len(line) - len(line.lstrip())
        try:
            document, end = _DECODER.raw_decode(text, start)
        except json.JSONDecodeError as error:
            # To make this error, all lines before it were counted.
            effort += error.pos - start + error.pos // 16
            continue
        except (ValueError, RecursionError):
            effort += _HOPELESS
            continue
        line_end = text.find("\n", end) + 1 or len(text) + 1
        if not text[end : line_end - 1].strip():
            found, position = document, line_end
    return found


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _whole(line: str) -> JsonValue:
    document: JsonValue = _DECODER.decode(line)
    return document


_BEGINNINGS: Final = frozenset('{["-0123456789tfn')
_EFFORT: Final = 32
_HOPELESS: Final = 100_000
_DECODER: Final = json.JSONDecoder(parse_constant=_refuse)
