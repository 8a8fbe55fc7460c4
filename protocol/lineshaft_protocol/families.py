"""Ids of jobs that belong together: the items of an array, and a job with what runs it again.

They share the beginning of their ids, so that all of them are found by it, and whoever asks twice
for the same item or the same repeat asks for the same job.
"""

import re

from lineshaft_protocol.ids import JobId
from lineshaft_protocol.jobs import JobSpec

_RETRY = re.compile(r"\.r([1-9][0-9]*)")


def item_id(array_id: str, item: int) -> JobId:
    """The id of an item of an array."""
    return JobId(f"{array_id}.{item}")


def retry_id(job_id: str, number: int) -> JobId:
    """The id of the job that runs this one again for the ``number``-th time, from 1."""
    return JobId(f"{first_of(job_id)}.r{number}")


def first_of(job_id: str) -> JobId:
    """The id of the job that this one runs again; its own if it is the first."""
    first, dot, last = job_id.rpartition(".")
    return JobId(first if dot and _RETRY.fullmatch(f".{last}") else job_id)


def retry_number(job_id: str) -> int:
    """Which repeat of a job this one is; 0 for the first of them."""
    found = _RETRY.fullmatch(job_id[len(first_of(job_id)) :])
    return int(found[1]) if found is not None else 0


def fault_of_item(spec: JobSpec) -> str | None:
    """What is wrong with the ids of a job that says it is an item, or a repeat; None if nothing."""
    item, first = spec.array, first_of(spec.job_id)
    if item is not None:
        if spec.line is not None:
            return f"item {item.item} of array {item.array_id} cannot wait in a line as well"
        if item.item >= item.count:
            return f"item {item.item} is not one of {item.count}, which are counted from 0"
        expected = item_id(item.array_id, item.item)
        if first != expected:
            return f"item {item.item} of array {item.array_id} must have the id {expected}"
    if spec.retry_of is not None and (
        first_of(spec.retry_of) != first or retry_number(spec.job_id) == 0
    ):
        return f"what runs {spec.retry_of} again must have an id as {retry_id(spec.retry_of, 1)}"
    return None
