"""Log lines: JSON for machines, one readable line for people, and no secrets in either."""

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Literal, TextIO, cast

from typing_extensions import override

LogStyle = Literal["auto", "json", "human"]
Level = Literal["debug", "info", "warning", "error"]

_HIDDEN = "***"
_SECRET_IN_TEXT = re.compile(r"""(?i)(\btoken=|\bbearer\s+)[^\s&"',;)\]}]+""")
_SECRET_NAME = re.compile(r"(?i)(^|_)(token|password|secret|authorization|api_key)$")

# What a record has without anybody's `extra`, and what libraries add for their own formatters.
_STANDARD_FIELDS = frozenset(
    {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName", "color_message"}
)


def configure_logging(
    level: Level | int = "info", style: LogStyle = "auto", *, stream: TextIO | None = None
) -> None:
    """Send all logs of this process to one stream, replacing what was configured before.

    Args:
        level: The least severe level that is written.
        style: `auto` writes for people on a terminal, and JSON lines anywhere else.
        stream: Where to; by default standard error.
    """
    target = stream or sys.stderr
    is_json = style == "json" or (style == "auto" and not target.isatty())
    handler = logging.StreamHandler(target)
    handler.setFormatter(JsonFormatter() if is_json else HumanFormatter())
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper() if isinstance(level, str) else level)


def redact(text: str) -> str:
    """Hide what follows `token=` or `Bearer` in a text."""
    return _SECRET_IN_TEXT.sub(rf"\g<1>{_HIDDEN}", text)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `ts` (UTC), `level`, `logger`, `msg`, then the extra fields."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "ts": _moment(record).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": redact(record.getMessage()),
        }
        for name, value in _extra_fields(record).items():
            line[name if name not in line else f"{name}_"] = value
        if problem := _problem(self, record):
            line["error"] = problem
        return json.dumps(line, default=_as_text, ensure_ascii=False)


class HumanFormatter(logging.Formatter):
    """Local time, level, message, then the extra fields as `name=value`."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        clock = _moment(record).astimezone().strftime("%H:%M:%S.%f")[:-3]
        source = record.name.removeprefix("lineshaft_")
        line = f"{clock} {record.levelname.lower():7} {redact(record.getMessage())}"
        for name, value in _extra_fields(record).items():
            line += f" {name}={value}"
        line += f" [{source}]"
        if problem := _problem(self, record):
            line += f"\n{problem}"
        return line


def _moment(record: logging.LogRecord) -> datetime:
    return datetime.fromtimestamp(record.created, UTC)


def _extra_fields(record: logging.LogRecord) -> dict[str, object]:
    fields: dict[str, object] = {}
    for name, value in vars(record).items():
        if name not in _STANDARD_FIELDS:
            fields[name] = _HIDDEN if _SECRET_NAME.search(name) else _redact_inside(value)
    return fields


def _redact_inside(value: object) -> object:
    match value:
        case str():
            return redact(value)
        case bool() | int() | float() | None:
            return value
        case list() | tuple():
            return [_redact_inside(item) for item in cast("list[object]", value)]
        case dict():
            return {
                str(name): _HIDDEN if _SECRET_NAME.search(str(name)) else _redact_inside(item)
                for name, item in cast("dict[object, object]", value).items()
            }
        case _:
            return _as_text(value)


def _as_text(value: object) -> str:
    return redact(str(value))


def _problem(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    parts: list[str] = []
    if record.exc_info:
        parts.append(formatter.formatException(record.exc_info))
    if record.stack_info:
        parts.append(formatter.formatStack(record.stack_info))
    return redact("\n".join(parts))
