"""What each role may do. Nothing that is not said here."""

from collections.abc import Mapping
from typing import Final, Literal

TokenRole = Literal["viewer", "client", "worker", "admin"]
Permission = Literal["look", "read_output", "download", "control", "submit", "work", "back_up"]

PERMISSIONS: Final[Mapping[TokenRole, tuple[Permission, ...]]] = {
    "viewer": ("look",),
    "client": ("look", "read_output", "download", "control", "submit"),
    "worker": ("work",),
    "admin": ("look", "read_output", "download", "control", "submit", "work"),
}
LOCAL_PERMISSIONS: Final[tuple[Permission, ...]] = (*PERMISSIONS["admin"], "back_up")
"""Of the local token, which alone may name paths of the coordinator's machine."""
ROLES: Final[Mapping[object, TokenRole]] = {role: role for role in PERMISSIONS}
"""By their names, as a file has them."""

_MAY: Final[Mapping[TokenRole, str]] = {
    "viewer": "who may look at jobs, workers and runs and change nothing",
    "client": "who may do everything with jobs",
    "worker": "who runs jobs and may ask nothing",
    "admin": "who may do everything",
}


def wrong_role(role: TokenRole, wanted: Literal["client", "worker"]) -> str:
    """Say to who brings a token of one role that it takes another, and where to get that."""
    return (
        f"this token is for a {role}, {_MAY[role]}; this takes one for a {wanted}, which "
        f"'lineshaft token create --role {wanted}' makes on the head node"
    )
