"""Reads Markdown as the tests need it: blocks that are run, links, headings.

A block is run if a comment, invisible to the reader, stands on the line before it:

    <!-- run -->              run it (python, or bash); it must succeed
    <!-- file: train.py -->   write it to this file, for the blocks that follow
    <!-- output -->           what the block before must have printed; `...` stands for any text

All blocks of a document are run in order, in one empty folder that is also the home of Lineshaft.
`<!-- needs: coordinator -->` anywhere in it starts a coordinator and a worker there first.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Action = Literal["run", "file", "output"]

_MARK = re.compile(r"^\s*<!--\s*(run|file|output)(?::\s*(\S+))?\s*-->\s*$")
_FENCE = re.compile(r"^(\s*)(`{3,}|~{3,})\s*(\w*)")
_NEEDS = re.compile(r"^<!--\s*needs:\s*coordinator\s*-->\s*$", re.MULTILINE)
_HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*$")
_LINK = re.compile(
    r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^()\s]+(?:\([^()\s]*\))?)(?:\s+\"[^\"]*\")?\)"
)


class MarkError(Exception):
    """A mark in a document cannot be obeyed."""

    def __init__(self, place: str, problem: str) -> None:
        super().__init__(f"{place}: {problem}")


@dataclass(frozen=True, slots=True)
class Block:
    """A marked block of code."""

    action: Action
    language: str
    text: str
    place: str
    """File and line, for the reader of a failure."""
    name: str = ""
    """Of the file to write."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a document, and whether it belongs to a block of code."""

    number: int
    text: str
    is_code: bool


def lines_of(text: str) -> Iterator[Line]:
    """Tell code from prose; fences count as code."""
    fence: str | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        found = _FENCE.match(line)
        if fence is None and found:
            fence = found.group(2)
            yield Line(number, line, is_code=True)
        elif fence is not None:
            yield Line(number, line, is_code=True)
            if line.strip().startswith(fence) and not line.strip().strip(fence[0]):
                fence = None
        else:
            yield Line(number, line, is_code=False)


def needs_coordinator(text: str) -> bool:
    """Whether the document's blocks need daemons."""
    return bool(_NEEDS.search(text))


def blocks_of(path: Path, text: str) -> list[Block]:
    """The marked blocks, in order.

    Raises:
        MarkError: A mark has no block, or no file name where it needs one.
    """
    lines = list(lines_of(text))
    found: list[Block] = []
    for index, line in enumerate(lines):
        mark = None if line.is_code else _MARK.match(line.text)
        if mark is None:
            continue
        place = f"{path.name}:{line.number}"
        action, name = mark.group(1), mark.group(2) or ""
        fence = _FENCE.match(lines[index + 1].text) if index + 1 < len(lines) else None
        if fence is None:
            raise MarkError(place, "no block of code follows the mark")
        if (action == "file") != bool(name):
            raise MarkError(
                place, "write it as <!-- file: NAME -->, <!-- run --> or <!-- output -->"
            )
        body = _body(lines[index + 2 :], indent=len(fence.group(1)), fence=fence.group(2))
        kind: Action = "run" if action == "run" else "file" if action == "file" else "output"
        found.append(Block(kind, fence.group(3), body, place, name))
    return found


def _body(lines: list[Line], *, indent: int, fence: str) -> str:
    body: list[str] = []
    for line in lines:
        if line.text.strip() == fence:
            break
        body.append(line.text[indent:])
    return "\n".join(body) + "\n"


def matches(expected: str, printed: str) -> bool:
    """Whether output is what the document shows; ``...`` stands for any text."""
    parts = [re.escape(part) for part in expected.strip().split("...")]
    return re.fullmatch(".*".join(parts), printed.strip(), re.DOTALL) is not None


def links_of(text: str) -> list[tuple[int, str]]:
    """Line and target of each link in prose."""
    prose = (
        (line.number, re.sub(r"`[^`]*`", "", line.text))
        for line in lines_of(text)
        if not line.is_code
    )
    return [(number, link.group(1)) for number, line in prose for link in _LINK.finditer(line)]


def anchors_of(text: str) -> set[str]:
    """What a link may name behind ``#``, by GitHub's rules."""
    seen: dict[str, int] = {}
    anchors: set[str] = set()
    for line in lines_of(text):
        heading = None if line.is_code else _HEADING.match(line.text)
        if heading is None:
            continue
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading.group(1))
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        count = seen.get(slug, 0)
        seen[slug] = count + 1
        anchors.add(slug if count == 0 else f"{slug}-{count}")
    return anchors
