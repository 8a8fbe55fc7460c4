"""Parameters of a job as text that may be shown: what it gets is packed, and never opened here."""

import json
from collections.abc import Mapping
from typing import Final, cast

from lineshaft_protocol.jobs import PARAMS_CHARACTERS_MAX

TEXT_MAX: Final = 500
ITEMS_MAX: Final = 1000
DEPTH_MAX: Final = 8


def told_params(params: Mapping[str, object]) -> str | None:
    """Return parameters as JSON; None if there are none.

    Numbers, texts, lists and mappings stay what they are, array scalars become numbers, and of
    anything else its text is told. What would make it too long is left out, and said to be.
    """
    told: dict[str, str] = {}
    room = PARAMS_CHARACTERS_MAX
    for name, value in params.items():
        key, text = json.dumps(str(name)), json.dumps(_plain(value, 0))
        if len(key) + len(text) + 4 > room:
            text = '"(too long to be told)"'
        room -= len(key) + len(text) + 4
        if room < 0:
            break
        told[key] = text
    if not told:
        return None
    return "{" + ", ".join(f"{key}: {text}" for key, text in told.items()) + "}"


def _plain(value: object, depth: int) -> object:
    whole = value
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if depth < DEPTH_MAX:
        if isinstance(value, Mapping):
            named = cast("Mapping[object, object]", value)
            if len(named) <= ITEMS_MAX:
                return {str(key): _plain(each, depth + 1) for key, each in named.items()}
        elif isinstance(value, list | tuple):
            listed = cast("list[object]", value)
            if len(listed) <= ITEMS_MAX:
                return [_plain(each, depth + 1) for each in listed]
    return _text_of(whole)


def _text_of(value: object) -> object:
    convert: object = getattr(value, "item", None)
    try:
        if callable(convert) and getattr(value, "size", None) == 1:
            return _plain(convert(), DEPTH_MAX)
        return str(value)[:TEXT_MAX]
    except Exception as error:  # noqa: BLE001 - the user's own objects are asked for their text
        return f"({type(value).__name__} that does not tell itself: {type(error).__name__})"
