"""The numbers of a Python job: the last JSON document that it printed."""

import json
from typing import Final, NoReturn

from pydantic import JsonValue

_EFFORT: Final = 8
"""Most characters looked at in vain, for each character of text."""


def last_document(text: str) -> JsonValue:
    """Return the last JSON document that has its lines for itself; ``{}`` if there is none.

    Upstream takes the last *line* that is JSON, and so the last number of an indented object.
    """
    found: JsonValue = {}
    position, effort = 0, 0
    while position < len(text):
        line_end = text.find("\n", position)
        line_end = len(text) if line_end < 0 else line_end
        start = position + len(text[position:line_end]) - len(text[position:line_end].lstrip())
        position = line_end + 1
        if text[start : start + 1] not in _BEGINNINGS:
            continue
        # Each open bracket may be a document that never ends: not each may be searched to the end.
        is_tired = effort > _EFFORT * len(text)
        source, at = (text[start:line_end], 0) if is_tired else (text, start)
        try:
            document, end = _DECODER.raw_decode(source, at)
        except json.JSONDecodeError as error:
            effort += error.pos - at
            continue
        except (ValueError, RecursionError):
            effort += _HOPELESS
            continue
        end += start - at
        document_end = text.find("\n", end)
        document_end = len(text) if document_end < 0 else document_end
        if not text[end:document_end].strip():
            found, position = document, document_end + 1
    return found


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_BEGINNINGS: Final = frozenset('{["-0123456789tfn')
_HOPELESS: Final = 100_000
_DECODER: Final = json.JSONDecoder(parse_constant=_refuse)
