"""What viewers see of jobs: everything but what the jobs' own code and its builder wrote.

Viewers are let in to look at progress, and output is where secrets end up: a printed environment,
an address with a password in the text of an exception. So output, texts of failures and what a job
was submitted with are left out; how it failed is not.
"""

from typing import Final

from pydantic import JsonValue

from lineshaft_protocol.outcomes import Failure

HIDDEN: Final = "not shown to viewers"
_SEEN_OF_SPEC: Final = frozenset(
    {
        *("job_id", "kind", "name", "resources", "tags", "worker_id", "priority", "retries"),
        *("after", "timeouts", "backoff", "array", "line", "retry_of", "python", "parent"),
        *("nodes", "processes", "part", "preemptible", "checkpoints_kept", "modules"),
        *("experiment", "params"),
    }
)


def without_output(data: JsonValue) -> JsonValue:
    """An answer about jobs, as viewers may have it."""
    if isinstance(data, list):
        return [without_output(each) for each in data]
    if not isinstance(data, dict):
        return data
    if "kind" in data and "body" in data:  # An event. Those of output keep their places.
        return {**data, "body": {}} if data["kind"] == "log" else data
    if "file_id" in data:  # What a job says of its file is told, not printed.
        return data
    return {key: _seen(data, key, value) for key, value in data.items()}


def ending_text(failure: Failure) -> str:
    """How a job failed, without the words of its code."""
    parts = [failure.cause.replace("_", " "), failure.type_name, failure.signal_name or ""]
    if failure.exit_code is not None:
        parts.append(f"status {failure.exit_code}")
    return f"{' '.join(filter(None, parts))}; its text is {HIDDEN}"


def _seen(owner: dict[str, JsonValue], key: str, value: JsonValue) -> JsonValue:
    match key, value:
        case "error", str():
            return HIDDEN
        case "failure", {"cause": _, "message": _}:
            failure = Failure.model_validate(value)
            kept = failure.model_dump(include={"cause", "type_name", "exit_code", "signal_name"})
            return kept | {"message": ending_text(failure)}
        case "reason", str() if owner.get("type") == "AttemptLeft" or owner.get("failure"):
            return HIDDEN  # It repeats the failure's text, or that of another rank.
        case "job", dict():
            return {name: each for name, each in value.items() if name in _SEEN_OF_SPEC}
        case _:
            return without_output(value)
