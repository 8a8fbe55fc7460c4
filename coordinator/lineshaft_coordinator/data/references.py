"""Which blobs a journal record names."""

import re
from typing import Final

_NAMED: Final = re.compile(rb'"([0-9a-f]{64})"')


def blobs_named(record: bytes) -> list[str]:
    """List whatever in a record may be the name of a blob.

    Not decoded: a sweep looks at every record that is kept. What only looks like a name keeps a
    blob that nobody needs; none that somebody needs is missed, wherever later versions put it.
    """
    return [name.decode() for name in _NAMED.findall(record)]
