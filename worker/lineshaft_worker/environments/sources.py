"""Where packages may come from: the operator's index, and what jobs may name beside it."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from lineshaft_protocol.errors import LineshaftError
from lineshaft_runtime.requirements import Requirements

ALLOWED = (
    "https://pypi.org/",
    "https://files.pythonhosted.org/",
    "https://download.pytorch.org/whl",
    "https://github.com/",
    "git+https://github.com/",
)
"""What jobs may name unless the operator says otherwise."""
ANYTHING = "*"
_INDEX_VARIABLES = (
    "UV_INDEX", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS",
    "UV_NO_INDEX", "UV_INDEX_STRATEGY", "UV_OFFLINE", "UV_EXCLUDE_NEWER", "UV_RESOLUTION",
    "UV_PRERELEASE", "UV_TORCH_BACKEND", "UV_CONFIG_FILE", "UV_NO_CONFIG",
)  # fmt: skip


class SourceNotAllowedError(LineshaftError):
    """A job names a place to get packages from that the operator has not allowed."""

    def __init__(self, source: str, allowed: tuple[str, ...]) -> None:
        super().__init__(
            f"this worker takes no packages from {without_password(source)}; jobs may name "
            f"{', '.join(allowed) or 'nothing'} (its operator adds more with --allow-index)"
        )
        self.source = source


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """The operator's settings."""

    index_url: str | None = None
    """Instead of what uv itself is configured to use."""
    find_links: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ALLOWED
    """Beginnings of addresses that jobs may name; "*" for any."""

    def check(self, requirements: Requirements) -> None:
        """Hold what a job names against what is allowed.

        Raises:
            SourceNotAllowedError: It names something else.
        """
        own = {self.index_url, *self.find_links}
        for source in requirements.sources():
            if source in own or ANYTHING in self.allowed:
                continue
            if not any(_is_below(source, each) for each in self.allowed):
                raise SourceNotAllowedError(source, self.allowed)

    def arguments(self, requirements: Requirements) -> list[str]:
        """Return what uv is told besides the requirements themselves."""
        if "--no-index" in requirements.options:
            return []
        found: list[str] = []
        if self.index_url is not None and requirements.index_url is None:
            found += ["--default-index", self.index_url]
        for place in self.find_links:
            found += ["--find-links", place]
        return found

    def identity(self, environ: Mapping[str, str] = os.environ) -> str:
        """Return what of these settings decides what is installed."""
        own = [self.index_url or "", *self.find_links]
        return "\n".join([*own, *(f"{name}={environ.get(name, '')}" for name in _INDEX_VARIABLES)])


def without_password(url: str) -> str:
    """Return an address that may be shown."""
    return re.sub(r"(?<=//)[^/@\s]+@", "***@", url)


def _is_below(source: str, allowed: str) -> bool:
    if not source.startswith(allowed) or ".." in source:
        return False
    # So that https://pypi.org does not allow https://pypi.org.evil.example.
    rest = source[len(allowed) :]
    return not rest or allowed.endswith("/") or rest[0] in "/?#"
