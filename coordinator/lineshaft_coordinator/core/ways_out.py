"""What a person can do about a job that failed: one sentence for each cause."""

from lineshaft_protocol.outcomes import FailureCause, Outcome


def way_out(outcome: Outcome) -> str | None:
    """What to look at or to change before a failed job is done again; None if it did not fail."""
    if outcome.status != "failed" or outcome.failure is None:
        return None
    return _of_cause(outcome.failure.cause, outcome.job_id, outcome.worker_id)


def _of_cause(cause: FailureCause, job_id: str, worker_id: str | None) -> str:
    logs = f"'lineshaft logs {job_id}'"
    worker = f"worker {worker_id}" if worker_id is not None else "its worker"
    match cause:
        case "exception" | "exit":
            return f"{logs} has what it printed; the same code fails again unless its data changed"
        case "signal":
            return f"{logs} has what it printed; the kernel's log on {worker} may say who killed it"
        case "oom":
            return f"submit it with more memory, or let it use less; {logs} has what it printed"
        case "timeout" | "silence_timeout":
            return f"submit it with a longer {cause}, or none; {logs} has what it did until then"
        case "prepare_timeout":
            story = f"'lineshaft story {job_id}' tells when {worker} got it"
            return f"submit it with a longer {cause}, or none; {story}"
        case "environment":
            return (
                f"{logs} has what the builder said; submit it with requirements that {worker} has"
            )
        case "start":
            drain = f"; 'lineshaft drain {worker_id}' keeps jobs off it" if worker_id else ""
            return f"the log of the daemon of {worker} tells more{drain}"
        case "entry_point":
            return "submit it with the name of a file or function that is among the files it sends"
        case "unpickle":
            return (
                f"submit it with the requirements of its code, or with the Python of {worker}: "
                "what it was made of cannot be loaded there"
            )
        case "result":
            return (
                "return something that can be pickled, or save it with run.artifact and return less"
            )
        case "result_missing":
            return f"its result was lost on {worker}; done again it may have one"
        case "worker_lost":
            return (
                f"'lineshaft story {job_id}' names the workers that were lost with it; see whether "
                "it was the job that took them down before it is done again"
            )
        case "dependency":
            return f"do again what it came after first; 'lineshaft story {job_id}' has its names"
        case "queue_timeout":
            return (
                "'lineshaft workers' tells who is busy; start more workers, or submit it with a "
                "longer queue_timeout, or none"
            )
        case "unplaceable":
            return (
                "ask for less, or start a worker that has what it asks for; see 'lineshaft workers'"
            )
        case "blob_missing":
            return (
                "submit it again from where it came from: what it was submitted with is gone here"
            )
