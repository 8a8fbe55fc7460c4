"""What each role may do: the one place that says it.

Each route and each door for WebSockets names the permission that it takes, and who lacks it stays
outside. One that names none takes `submit`, which none but clients and admins have.
"""

from collections.abc import Mapping
from typing import Final, Literal

TokenRole = Literal["viewer", "client", "worker", "admin"]
Permission = Literal[
    "look", "read_output", "download", "control", "submit", "work", "see_all", "back_up"
]

PERMISSIONS: Final[Mapping[TokenRole, tuple[Permission, ...]]] = {
    "viewer": ("look",),
    "client": ("look", "read_output", "download", "control", "submit"),
    "worker": ("work",),
    "admin": ("look", "read_output", "download", "control", "submit", "work", "see_all"),
}
LOCAL_PERMISSIONS: Final[tuple[Permission, ...]] = (*PERMISSIONS["admin"], "back_up")
"""Of the local token, which alone may name paths of the coordinator's machine."""
UNSAID: Final[Permission] = "submit"
"""What a route takes that says nothing."""
ROLES: Final[Mapping[object, TokenRole]] = {role: role for role in PERMISSIONS}
"""By their names, as a file has them."""

_MAY: Final[Mapping[TokenRole, str]] = {
    "viewer": "who may look at jobs, workers and runs and change nothing",
    "client": "who may do everything with jobs",
    "worker": "who runs jobs and may ask nothing",
    "admin": "who may do everything",
}


def wrong_role(role: TokenRole, wanted: Permission) -> str:
    """Say to who brings a token that may not do this which one may, and where to get that."""
    whose = f"this token is for {'an' if role == 'admin' else 'a'} {role}"
    if wanted == "back_up":
        return f"{whose}; only the local token of the coordinator's machine opens this"
    # The roles are in the order of what they may do: the first that is enough.
    enough = next(name for name, may in PERMISSIONS.items() if wanted in may)
    return (
        f"{whose}, {_MAY[role]}; this takes one for {'an' if enough == 'admin' else 'a'} {enough},"
        f" which 'lineshaft token create --role {enough}' makes on the head node"
    )
