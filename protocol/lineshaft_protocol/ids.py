"""The names of things, each a type of its own so that they cannot be mixed up."""

import re
from typing import Annotated, NewType

from pydantic import StringConstraints

JobId = NewType("JobId", str)
"""Made by the client that submits, so that submitting twice is harmless."""

WorkerId = NewType("WorkerId", str)
ClientId = NewType("ClientId", str)

BlobId = NewType("BlobId", str)
"""SHA-256 of the content, 64 lower-case hexadecimal digits."""

Session = NewType("Session", int)
"""One connection, numbered by the process that accepted or opened it."""

_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.:@+-]{0,127}$"
_NAME_PATTERN = re.compile(_NAME)

Name = Annotated[str, StringConstraints(pattern=_NAME)]
"""Text that may name a job, worker or client: it is safe in a URL, a file name and a log line."""

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


def is_name(text: str) -> bool:
    """Whether text is a `Name`, where no model checks it."""
    return _NAME_PATTERN.fullmatch(text) is not None
