"""What went wrong in a training: its failures and the errors it printed, each told once."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import Final

from pydantic import JsonValue

from lineshaft_coordinator.core.records import AttemptLeft, JobFinished
from lineshaft_coordinator.finetune.points import stamp
from lineshaft_coordinator.finetune.views import View
from lineshaft_coordinator.journal import read_record
from lineshaft_protocol.outcomes import Failure

_LINE: Final = re.compile(
    r"\b(CRITICAL|FATAL|ERROR|WARNING)\b[\s:\]\-]*(.*)|^(?:\w+\.)*(\w*(?:Error|Exception)): (.*)"
)
_NUMBERS: Final = re.compile(r"0x[0-9a-fA-F]+|\d+(?:\.\d+)?")
_FRAME: Final = re.compile(r'^\s*File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<function>.+)$')
_PHASES: Final = {
    "environment": "setup",
    "start": "setup",
    "entry_point": "setup",
    "unpickle": "setup",
    "prepare_timeout": "setup",
    "queue_timeout": "queue",
    "unplaceable": "queue",
    "dependency": "queue",
}


def errors_view(
    job_id: str,
    records: Sequence[tuple[int, float, bytes]],
    lines: Iterable[str],
    summary: str | None,
) -> View:
    """The answer to ``GET /api/training/{id}/errors``.

    Args:
        job_id: The training.
        records: Its records: each failed attempt is an error.
        lines: The last lines it printed.
        summary: Why it failed, if it did.
    """
    found: dict[str, View] = {}
    traceback: View | None = None
    for _, at, data in records:
        match read_record(data):
            case AttemptLeft(failure=Failure() as failure):
                traceback = traceback_view(failure) or traceback
                _add(found, at, "ERROR", _phase(failure), _message(failure))
            case JobFinished(outcome=outcome) if outcome.failure is not None:
                traceback = traceback_view(outcome.failure) or traceback
                _add(found, at, "ERROR", _phase(outcome.failure), _message(outcome.failure))
            case _:
                pass
    for line in lines:
        if (match := _LINE.search(line)) is not None:
            level = match[1] or "ERROR"
            text = match[2] if match[1] else f"{match[3]}: {match[4]}"
            if text.strip():
                _add(found, None, level, "training", text.strip()[:2000])
    errors: list[JsonValue] = [*found.values()]
    counts = [each["count"] for each in found.values()]
    return {
        "job_id": job_id,
        "error_summary": summary,
        "errors": errors,
        "traceback": traceback,
        "error_count": sum(count for count in counts if isinstance(count, int)),
        "unique_error_count": len(found),
    }


def traceback_view(failure: Failure) -> View | None:
    """A traceback and its frames, the outermost first; None if there is none."""
    if not failure.traceback.strip():
        return None
    lines = failure.traceback.splitlines()
    frames: list[JsonValue] = []
    for number, line in enumerate(lines):
        if (match := _FRAME.match(line)) is not None:
            after = lines[number + 1].strip() if number + 1 < len(lines) else ""
            frames.append(
                {
                    "file": match["file"],
                    "line": int(match["line"]),
                    "function": match["function"],
                    "code": after if not _FRAME.match(after) else None,
                }
            )
    return {
        "exception_type": failure.type_name or None,
        "message": failure.message,
        "raw": failure.traceback,
        "frames": frames,
    }


def _add(found: dict[str, View], at: float | None, level: str, phase: str, message: str) -> None:
    # What differs in its numbers only (a step, an address) is the same error again.
    plain = f"{level} {phase} {_NUMBERS.sub('#', message)}"
    key = hashlib.sha256(plain.encode()).hexdigest()[:16]
    known = found.get(key)
    if known is None:
        found[key] = {
            "timestamp": stamp(at),
            "level": level,
            "phase": phase,
            "message": message,
            "dedupe_key": key,
            "count": 1,
        }
    elif isinstance(known["count"], int):
        known["count"] += 1


def _message(failure: Failure) -> str:
    return f"{failure.type_name}: {failure.message}" if failure.type_name else failure.message


def _phase(failure: Failure) -> str:
    return _PHASES.get(failure.cause, "training")
