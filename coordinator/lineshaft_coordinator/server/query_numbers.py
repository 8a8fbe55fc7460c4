"""Whole numbers in the query of a request."""

from starlette.requests import Request

from lineshaft_protocol.wire import NUMBER_MAX

DIGITS_MAX = 16


def number_asked(
    request: Request, name: str, *, least: int = 0, most: int = NUMBER_MAX
) -> int | None:
    """Read a whole number; None if it is not in the query.

    Raises:
        ValueError: It is none, or out of range; the text is for who asked.
    """
    text = request.query_params.get(name)
    if text is None:
        return None
    digits = text.removeprefix("-")
    is_number = digits.isdecimal() and len(digits) <= DIGITS_MAX
    if not is_number or not least <= int(text) <= most:
        shown = text[:40]
        raise ValueError(f"{name} must be a whole number from {least} to {most}, not {shown!r}")
    return int(text)


def number(
    request: Request, name: str, default: int, *, least: int = 0, most: int = NUMBER_MAX
) -> int:
    """Read a whole number, or take the default.

    Raises:
        ValueError: As `number_asked`.
    """
    found = number_asked(request, name, least=least, most=most)
    return default if found is None else found
