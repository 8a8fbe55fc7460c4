"""What a person can do about a job that failed: one sentence for each cause."""

from collections.abc import Mapping

from lineshaft_protocol.outcomes import FailureCause, Outcome

_CODE_FAILS = "{logs} has what it printed; the same code fails again unless its data changed"
_TOO_SHORT = "submit it with a longer {cause}, or none; {logs} has what it did until then"

WAYS_OUT: Mapping[FailureCause, str] = {
    "exception": _CODE_FAILS,
    "exit": _CODE_FAILS,
    "signal": "{logs} has what it printed; the kernel's log on {worker} may say who killed it",
    "oom": "submit it with more memory, or let it use less; {logs} has what it printed",
    "timeout": _TOO_SHORT,
    "silence_timeout": _TOO_SHORT,
    "prepare_timeout": "submit it with a longer {cause}, or none; {story} tells when {worker} got "
    "it",
    "environment": "{logs} has what the builder said; submit it with requirements that {worker} "
    "has",
    "start": "the log of the daemon of {worker} tells more; 'lineshaft drain' keeps jobs off it",
    "entry_point": "submit it with the name of a file or function that is among the files it sends",
    "unpickle": "submit it with the requirements of its code, or with the Python of {worker}: what "
    "it was made of cannot be loaded there",
    "result": "return something that can be pickled, or save it with run.artifact and return less",
    "result_missing": "its result was lost on {worker}; done again it may have one",
    "worker_lost": "{story} names the workers that were lost with it; see whether it was the job "
    "that took them down before it is done again",
    "dependency": "do again what it came after first; {story} has its names",
    "queue_timeout": "'lineshaft workers' tells who is busy; start more workers, or submit it with "
    "a longer {cause}, or none",
    "unplaceable": "ask for less, or start a worker that has what it asks for; see 'lineshaft "
    "workers'",
    "blob_missing": "submit it again from where it came from: what it was submitted with is gone "
    "here",
}


def way_out(outcome: Outcome) -> str | None:
    """What to look at or to change before a failed job is done again; None if it did not fail."""
    if outcome.status != "failed" or outcome.failure is None:
        return None
    return WAYS_OUT[outcome.failure.cause].format(
        cause=outcome.failure.cause,
        logs=f"'lineshaft logs {outcome.job_id}'",
        story=f"'lineshaft story {outcome.job_id}'",
        worker=f"worker {outcome.worker_id}" if outcome.worker_id is not None else "its worker",
    )
