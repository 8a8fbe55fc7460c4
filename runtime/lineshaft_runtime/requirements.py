"""Requirements of a job: read as in a requirements.txt, checked, and brought into one form.

What differs in case, order, spaces or comments is the same set of requirements, and has the same
text. Whether a version exists, only an index can say; what is written wrongly is said here.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from lineshaft_protocol.errors import LineshaftError

LINES_MAX = 2000
LINE_CHARACTERS_MAX = 64 * 1024
"""A line of a lock file may carry some hundred hashes."""

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_VERSION = r"(?:===|~=|==|!=|<=|>=|<|>)\s*[A-Za-z0-9_.*+!-]+"
_VERSIONS = rf"{_VERSION}(?:\s*,\s*{_VERSION})*\s*,?"
_REQUIREMENT = re.compile(
    rf"(?P<name>{_NAME})\s*(?P<extras>\[[^\]]*\])?\s*"
    rf"(?:@\s*(?P<url>\S+)|\(\s*(?P<inner>{_VERSIONS})\s*\)|(?P<versions>{_VERSIONS}))?"
    r"\s*(?:;\s*(?P<marker>.+))?"
)
_HASH = re.compile(r"\s--hash[= ]\s*(sha256|sha384|sha512):([0-9a-fA-F]+)")
_LOCAL = (".", "/", "~", "file:", "-e ", "--editable")
_OURS = "lineshaft"


class RequirementsError(LineshaftError):
    """A requirement cannot be read, or means something only on the machine it was written on."""

    def __init__(self, reason: str, line: str | None = None) -> None:
        super().__init__(reason if line is None else f"requirement {line[:200]!r}: {reason}")
        self.reason, self.line = reason, line


@dataclass(frozen=True, slots=True)
class Requirements:
    """A set of requirements, each in its normal form, sorted, and where they may come from."""

    lines: tuple[str, ...] = ()
    index_url: str | None = None
    """Instead of the worker's own index."""
    extra_index_urls: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    """Pages or folders of the worker with links to packages."""
    options: frozenset[str] = field(default_factory=frozenset[str])
    """Of `OPTIONS`."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing is asked for."""
        return self == Requirements()

    def text(self) -> str:
        """Return the lines of a requirements.txt that says the same."""
        written = [f"--index-url {self.index_url}"] if self.index_url else []
        written += [f"--extra-index-url {url}" for url in self.extra_index_urls]
        written += [f"--find-links {place}" for place in self.find_links]
        written += sorted(self.options)
        return "".join(f"{line}\n" for line in (*written, *self.lines))

    def sources(self) -> Iterator[str]:
        """List every place that the requirements themselves name to get packages from."""
        if self.index_url:
            yield self.index_url
        yield from self.extra_index_urls
        yield from self.find_links
        for line in self.lines:
            match = _REQUIREMENT.fullmatch(_without_hashes(line))
            if match is not None and match["url"]:
                yield match["url"]

    def merged(self, other: "Requirements") -> "Requirements":
        """Return what asks for both.

        Raises:
            RequirementsError: They name two indexes, or two versions of one package.
        """
        pins = _pins(self.lines)
        for name, (version, line) in _pins(other.lines).items():
            pinned, mine = pins.get(name, (version, line))
            if pinned != version:
                raise RequirementsError(f"{mine} and {line}")
        if self.index_url and other.index_url and self.index_url != other.index_url:
            raise RequirementsError(f"two indexes: {self.index_url} and {other.index_url}")
        return Requirements(
            lines=tuple(sorted({*self.lines, *other.lines})),
            index_url=self.index_url or other.index_url,
            extra_index_urls=_united(self.extra_index_urls, other.extra_index_urls),
            find_links=_united(self.find_links, other.find_links),
            options=self.options | other.options,
        )


OPTIONS = ("--no-index", "--pre", "--require-hashes")


def parse_requirements(lines: Iterable[str]) -> Requirements:
    """Read lines as in a requirements.txt.

    Raises:
        RequirementsError: A line cannot be read, or names a file of the machine it was written on.
    """
    found: set[str] = set()
    index_url: str | None = None
    extra_index_urls: list[str] = []
    find_links: list[str] = []
    options: set[str] = set()
    for line in _logical(lines):
        option, value = _option(line)
        match option:
            case "":
                if (one := _requirement(line)) is not None:
                    found.add(one)
            case "-i" | "--index-url":
                index_url = _url(line, value)
            case "--extra-index-url":
                extra_index_urls.append(_url(line, value))
            case "-f" | "--find-links":
                find_links.append(_url(line, value))
            case "-r" | "--requirement" | "-c" | "--constraint":
                raise RequirementsError(
                    "another file is read where it lies: pass the path of this one, "
                    "as requirements=Path('requirements.txt')",
                    line,
                )
            case _ if option in OPTIONS:
                options.add(option)
            case _:
                raise RequirementsError(
                    f"the option {option} is not supported; there are --index-url, "
                    f"--extra-index-url, --find-links, {', '.join(OPTIONS)}",
                    line,
                )
        if len(found) > LINES_MAX:
            raise RequirementsError(f"more than {LINES_MAX} requirements")
    if "--require-hashes" in options and (bare := [x for x in found if "--hash=" not in x]):
        raise RequirementsError("--require-hashes is set, and it has no --hash", min(bare))
    return Requirements(
        lines=tuple(sorted(found)),
        index_url=index_url,
        extra_index_urls=tuple(dict.fromkeys(extra_index_urls)),
        find_links=tuple(dict.fromkeys(find_links)),
        options=frozenset(options),
    )


def _pins(lines: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return for each package the one version that is possible, and the words that say so.

    Only what is certain: not what holds on some machines, nor versions that may have a local part.
    """
    found: dict[str, tuple[str, str]] = {}
    for line in lines:
        words = line.split(" --hash")[0]
        match = re.fullmatch(r"([a-z0-9-]+)(?:\[[^\]]*\])?==([0-9][0-9a-z.]*)", words)
        if match is not None:
            # 1.0 is 1.
            found[match[1]] = (re.sub(r"(\.0)+$", "", match[2]), words)
    return found


def _logical(lines: Iterable[str]) -> Iterator[str]:
    """Join what ends in a backslash, and leave out comments and empty lines."""
    whole = ""
    for each in (part for line in lines for part in line.splitlines()):
        line = each.rstrip()
        if line.lstrip().startswith("#"):
            continue
        if line.endswith("\\"):
            whole += line[:-1] + " "
            continue
        whole = re.sub(r"(?:^|\s)#.*$", "", whole + line).strip()
        if len(whole) > LINE_CHARACTERS_MAX:
            raise RequirementsError(f"longer than {LINE_CHARACTERS_MAX} characters", whole)
        if whole:
            yield whole
        whole = ""
    if whole.strip():
        yield whole.strip()


def _option(line: str) -> tuple[str, str]:
    if not line.startswith("-") or line.startswith(_LOCAL):
        return "", ""
    option, _, value = line.replace("=", " ", 1).partition(" ")
    if not option.startswith("--") and len(option) > 2:  # As in `-rother.txt`.
        option, value = option[:2], option[2:]
    return option, value.strip()


def _url(line: str, value: str) -> str:
    if not value or any(each.isspace() or not each.isprintable() for each in value):
        raise RequirementsError("its address is missing, or has a space in it", line)
    return value


def _requirement(line: str) -> str | None:
    """Return the normal form; None for what the worker gives to every job anyway."""
    if line.startswith(_LOCAL):
        raise RequirementsError(
            "a path means nothing on the worker; send the code along with files=, "
            "or name a package of an index",
            line,
        )
    hashes = sorted({f"--hash={kind}:{value.lower()}" for kind, value in _HASH.findall(line)})
    match = _REQUIREMENT.fullmatch(_without_hashes(line))
    if match is None:
        raise RequirementsError("this is no requirement; write it as 'numpy>=2'", line)
    name = re.sub(r"[-_.]+", "-", match["name"]).lower()
    if name == _OURS:
        return None
    extras = _extras(line, match["extras"])
    versions = match["inner"] or match["versions"] or ""
    parts = sorted({re.sub(r"\s+", "", each) for each in versions.split(",") if each.strip()})
    url = match["url"]
    if url is not None and url.startswith(_LOCAL):
        raise RequirementsError("its path means nothing on the worker", line)
    written = f"{name}{extras}" + (f" @ {url}" if url else ",".join(parts))
    if match["marker"]:
        written += " ; " + " ".join(match["marker"].split())
    return " ".join([written, *hashes])


def _extras(line: str, written: str | None) -> str:
    names = [each.strip() for each in (written or "[]")[1:-1].split(",")]
    names = [each for each in names if each]
    for name in names:
        if not re.fullmatch(_NAME, name):
            raise RequirementsError(f"{name!r} is no name of an extra", line)
    return f"[{','.join(sorted({name.lower() for name in names}))}]" if names else ""


def _without_hashes(line: str) -> str:
    return _HASH.sub("", line).strip()


def _united(some: tuple[str, ...], more: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*some, *more)))
