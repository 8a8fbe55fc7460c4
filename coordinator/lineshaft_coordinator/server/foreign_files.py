"""How files that jobs made are sent: to be saved, never to be shown as pages of ours."""

from collections.abc import Mapping
from typing import Final

FOREIGN_FILE: Final[Mapping[str, str]] = {
    "Content-Security-Policy": "sandbox; default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
"""Should a browser open one all the same, it has no origin, runs nothing and loads nothing."""
