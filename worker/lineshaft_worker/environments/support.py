"""Our own code, made importable in environments that do not have it installed.

A runner in a job's environment needs our packages and three pure ones of others. They lie as
links in one folder, which a `.pth` line in each environment appends to the end of `sys.path`:
whatever the job installed itself comes first. The folder is named by a variable, not in the
environment, so an environment outlives updates of Lineshaft.
"""

import hashlib
import os
import secrets
import sys
from importlib.util import find_spec
from pathlib import Path

VARIABLE = "LINESHAFT_SUPPORT"
PTH = (
    f"import os, sys; p = os.environ.get({VARIABLE!r}); "
    "p and p not in sys.path and sys.path.append(p)\n"
)
"""For `site`, which runs lines that start with "import"."""

_PACKAGES = (
    "lineshaft",
    "lineshaft_protocol",
    "lineshaft_runtime",
    "lineshaft_worker",
    "cloudpickle",
    "msgpack",  # Has a pure Python form, for versions that its compiled one is not made for.
    "typing_extensions",
)
_OF_OUR_VERSION = ("pydantic", "pydantic_core", "annotated_types", "typing_inspection")
"""Compiled: for environments of our own Python version only. Plans need them."""
PLAN_REQUIREMENTS = ("pydantic>=2.8,<3",)
"""What a plan's environment of another Python version gets instead."""


def support_folder(root: Path, python: str) -> Path:
    """Return the folder for environments of a Python version; makes it if need be.

    Args:
        root: Folder of all environments.
        python: As 3.12.

    Raises:
        OSError: It cannot be made.
    """
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    names = _PACKAGES + (_OF_OUR_VERSION if python == own else ())
    places = {name: place for name in names if (place := _place(name)) is not None}
    text = "\n".join(f"{name} {place}" for name, place in sorted(places.items()))
    folder = root / ".support" / hashlib.sha256(text.encode()).hexdigest()[:16]
    if folder.is_dir():
        return folder
    folder.parent.mkdir(mode=0o700, exist_ok=True)
    draft = folder.with_name(f".{folder.name}-{secrets.token_hex(4)}")
    draft.mkdir(mode=0o700)
    for place in places.values():
        (draft / place.name).symlink_to(place)
    try:
        draft.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
        for link in draft.iterdir():  # Another daemon was faster.
            link.unlink()
        draft.rmdir()
    return folder


def _place(name: str) -> Path | None:
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        return None
    path = Path(os.path.abspath(spec.origin))  # noqa: PTH100 - links stay links
    return path.parent if spec.submodule_search_locations else path
