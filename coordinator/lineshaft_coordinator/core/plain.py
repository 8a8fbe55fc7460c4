"""Jobs that ask for a slot and nothing else: a flood is made of them.

They wait for no other job, hold no place in an array or line, have no parent, no parts and no times
of their own. Whoever handles a job reads a dozen of its fields to find that out; for these it is
known from the names of the fields that their client gave.
"""

from lineshaft_protocol.jobs import JobSpec

PLAIN_FIELDS = frozenset(
    {
        "job_id",
        "kind",
        "payload",
        "name",
        "code",
        "python",
        "priority",
        "retries",
        "preemptible",
        "experiment",
        "params",
    }
)
"""What a plain job may say of itself; every other field has its default."""


def is_plain(spec: JobSpec) -> bool:
    """Whether the job says nothing else; one that is not may still ask for no more."""
    return spec.__pydantic_fields_set__ <= PLAIN_FIELDS
