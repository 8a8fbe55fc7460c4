"""A function with files of the user's own modules, which it imports only when it is called."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Carried:
    """What a worker unpickles in place of such a function; it makes the modules importable first.

    Args:
        function: Pickled; it may need the modules, so it is loaded after they are there.
        files: Contents by path below the folder that is put on `sys.path`.
        places: Where the user's machine had a module's file, and its path among `files`.
        digest: SHA-256 of files and their names.
    """

    function: bytes
    files: Mapping[str, bytes]
    places: Mapping[str, str]
    digest: str
