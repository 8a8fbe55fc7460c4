"""A worker behind a network of its own, that a test can cut."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest


@dataclass
class Cable:
    """A network namespace on the other end of a pair of virtual interfaces."""

    name: str
    number: int

    @property
    def here(self) -> str:
        """Our address, to which the other side dials."""
        return f"10.213.{self.number}.1"

    @property
    def there(self) -> str:
        """The address of the other side."""
        return f"10.213.{self.number}.2"

    @property
    def prefix(self) -> tuple[str, ...]:
        """What to put in front of a command that is to run on the other side."""
        return ("ip", "netns", "exec", self.name)

    def cut(self) -> None:
        """Lose every packet in both directions; nobody is told (no FIN, no RST, no ICMP)."""
        self.lose_outbound()
        self.lose_inbound()

    def lose_outbound(self) -> None:
        """Lose what we send to the other side; what it sends arrives."""
        # An address that answers to nobody, instead of a link that is down: sending succeeds.
        _ip("neigh", "replace", self.there, "lladdr", "02:00:00:00:00:01", "dev", f"{self.name}h")

    def lose_inbound(self) -> None:
        """Lose what the other side sends; what we send arrives."""
        _ip("-n", self.name, "neigh", "replace", self.here, "lladdr", "02:00:00:00:00:01",
            "dev", f"{self.name}w")  # fmt: skip

    def mend(self) -> None:
        """Let packets pass again."""
        _ip("neigh", "flush", "to", self.there, "dev", f"{self.name}h", "nud", "permanent")
        _ip("-n", self.name, "neigh", "flush", "to", self.here, "dev", f"{self.name}w",
            "nud", "permanent")  # fmt: skip

    @contextmanager
    def forgotten(self, port: int) -> Iterator[None]:
        """Be a NAT that forgot one connection: its packets are lost, and new connections pass.

        Args:
            port: The other side's port of the connection.
        """
        rule = ("ipproto", "tcp")
        theirs = ("-n", self.name, "rule"), (*rule, "sport", str(port), "blackhole")
        ours = ("rule",), ("to", self.there, *rule, "dport", str(port), "blackhole")
        made: list[tuple[tuple[str, ...], tuple[str, ...]]] = []
        try:
            for place, what in (theirs, ours):
                _ip(*place, "add", *what)
                made.append((place, what))
            yield
        finally:
            for place, what in made:
                _ip(*place, "del", *what)

    def ports(self) -> set[int]:
        """The other side's ports of TCP connections that are open there."""
        text = subprocess.run(
            [*self.prefix, "cat", "/proc/net/tcp"], check=True, capture_output=True, text=True
        ).stdout
        rows = [line.split() for line in text.splitlines()[1:]]
        # Local address and state; 01 is an established connection.
        return {int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "01"}


@contextmanager
def cable() -> Iterator[Cable]:
    """A namespace and its cable; both are gone afterwards. Skips where none can be made."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    if shutil.which("ip") is None:
        pytest.skip("network namespaces need iproute2 (the program ip)")
    made = Cable(f"ls{os.getpid() % 100_000}", os.getpid() % 250)
    try:
        _ip("netns", "add", made.name)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"network namespaces cannot be made here: {error.stderr.strip()}")
    try:
        ends = (f"{made.name}h", f"{made.name}w")
        _ip("link", "add", ends[0], "type", "veth", "peer", "name", ends[1], "netns", made.name)
        _ip("addr", "add", f"{made.here}/24", "dev", ends[0])
        _ip("link", "set", ends[0], "up")
        _ip("-n", made.name, "addr", "add", f"{made.there}/24", "dev", ends[1])
        _ip("-n", made.name, "link", "set", ends[1], "up")
        _ip("-n", made.name, "link", "set", "lo", "up")
        yield made
    finally:
        _ip("netns", "del", made.name)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
