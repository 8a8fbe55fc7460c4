"""Connections as they really fail: in order and without duplicates, but they stall, end with
frames still on their way, and an end may notice much later or never."""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Protocol

from tests.simulation.faults import Faults
from tests.simulation.node import Node
from tests.simulation.world import World


class Server(Protocol):
    """What accepts connections."""

    def accepted(self, session: int, caller: Node) -> object: ...


@dataclass(slots=True)
class End:
    """One process's end of a connection."""

    node: Node
    boot: int
    session: int
    is_open: bool = True
    """Whether its process still uses it."""
    arrival: float = 0.0
    """When the last of what is on its way to this end arrives."""
    cut: float = inf
    """What would arrive after this moment never does."""

    @property
    def is_alive(self) -> bool:
        """Whether there is anybody to notice anything."""
        return self.is_open and self.node.is_up and self.node.boot == self.boot


@dataclass(slots=True)
class Wire:
    """One connection."""

    caller: End
    server: End
    is_dead: bool = False

    def opposite(self, end: End) -> End:
        """The other end."""
        return self.server if end is self.caller else self.caller


class Network:
    """All connections to the coordinator."""

    def __init__(self, world: World, faults: Faults) -> None:
        self._world, self._faults = world, faults
        self._dice = world.random("network")
        self._wires: dict[tuple[str, int, int], tuple[Wire, End]] = {}
        """By name, boot and session of an end."""
        self._dials: dict[str, int] = {}
        self._partitioned: dict[str, tuple[float, bool]] = {}
        """Until when a node is cut off, and whether its connections outlast that."""
        self.on_frame: Callable[[Node, bytes], None] = lambda _node, _frame: None

    # --- opening ---

    def connect(
        self,
        caller: Node,
        server: Node,
        *,
        accepted: Callable[[int], object],
        connected: Callable[[int], object],
    ) -> None:
        """Dial; a new call of the same process gives the one before up."""
        dial = self._dials[caller.name] = self._dials.get(caller.name, 0) + 1
        boot = caller.boot

        def is_current() -> bool:
            return caller.is_up and caller.boot == boot and self._dials[caller.name] == dial

        def establish() -> None:
            if not is_current():
                return
            fails = self._dice.random() < self._faults.connect_fails
            if fails or not server.is_up or self.is_cut_off(caller.name):
                self._world.mark("connect_failed")
                if self._dice.random() < 0.7:
                    caller.post(caller.disconnected(None))
                return
            near = End(caller, boot, caller.new_session())
            far = End(server, server.boot, server.new_session())
            wire = Wire(near, far)
            self._wires[caller.name, boot, near.session] = (wire, near)
            self._wires[server.name, far.boot, far.session] = (wire, far)
            server.post(accepted(far.session))

            def established() -> None:
                if is_current():
                    caller.post(connected(near.session))
                else:
                    self.close(caller, near.session)

            self._arrive(wire, near, established)

        self._world.after(self._latency(), establish)

    # --- using ---

    def send(self, sender: Node, session: int, frames: list[bytes]) -> None:
        """Put frames on their way; nobody says so when they never arrive."""
        found = self._wires.get((sender.name, sender.boot, session))
        if found is None:
            return
        wire, end = found
        for frame in frames:
            if wire.is_dead or not end.is_open:
                return
            if self._dice.random() < self._faults.reset_per_frame:
                self._world.mark("reset")
                self._break(wire)
                return
            self._carry(wire, wire.opposite(end), frame)

    def _carry(self, wire: Wire, to: End, frame: bytes) -> None:
        def deliver() -> None:
            self._world.note(to.node.name, frame)
            self.on_frame(to.node, frame)
            for event in to.node.decode(to.session, frame):
                to.node.post(event)

        self._arrive(wire, to, deliver)

    def _arrive(self, wire: Wire, to: End, action: Callable[[], None]) -> None:
        delay_s = self._latency()
        if self._dice.random() < self._faults.stall_per_frame:
            delay_s += self._dice.uniform(0.0, 12.0)
        until = max(
            self._cut_off_until(wire.caller.node.name), self._cut_off_until(wire.server.node.name)
        )
        at = max(self._world.now + delay_s, to.arrival, until)
        to.arrival = at

        def unless_cut() -> None:
            if at <= to.cut and to.is_alive:
                action()

        # Not by a delay: its rounding would let one frame overtake another.
        self._world.at(at, unless_cut)

    # --- ending ---

    def close(self, node: Node, session: int) -> None:
        """End a connection in order: the other end gets what was sent before."""
        found = self._wires.pop((node.name, node.boot, session), None)
        if found is None or not found[1].is_open:
            return
        wire, end = found
        end.is_open = False
        other = wire.opposite(end)
        if self._faults.close_is_echoed:
            node.post(node.disconnected(session))
        if not wire.is_dead:
            wire.is_dead = True
            self._arrive(wire, other, lambda: self._noticed(other))

    def crashed(self, node: Node, *, boot: int, has_kernel: bool = True) -> None:
        """A process is gone: its kernel, if it is still there, resets what it had."""
        for name, its_boot, session in tuple(self._wires):
            if name != node.name or its_boot != boot:
                continue
            wire, end = self._wires.pop((name, its_boot, session))
            end.is_open = False
            if not wire.is_dead and has_kernel:
                self._break(wire)
            elif not wire.is_dead:
                self._world.mark("vanished")
                wire.is_dead = True
                wire.opposite(end).cut = self._world.now

    def _break(self, wire: Wire) -> None:
        """Lose the end of what is on its way; each end notices in its own time, or never."""
        wire.is_dead = True
        for end in (wire.caller, wire.server):
            ahead_s = max(0.0, end.arrival - self._world.now)
            end.cut = self._world.now + self._dice.uniform(0.0, ahead_s)
            if self._dice.random() < self._faults.never_notices:
                self._world.mark("half_open")
                continue
            notice_s = ahead_s + self._dice.uniform(0.0, self._faults.latency_s_max)
            self._world.after(notice_s, lambda end=end: self._noticed(end))

    def _noticed(self, end: End) -> None:
        if end.is_alive:
            end.is_open = False
            self._wires.pop((end.node.name, end.boot, end.session), None)
            end.node.post(end.node.disconnected(end.session))

    # --- being cut off ---

    def cut_off(self, node: Node, for_s: float, *, keeps_connections: bool) -> None:
        """Let nothing through to or from a node for a while."""
        self._world.mark("partition")
        self._world.note(node.name, f"is cut off for {for_s:.3f} s")
        self._partitioned[node.name] = (self._world.now + for_s, keeps_connections)
        for wire, end in tuple(self._wires.values()):
            if end.node is not node or wire.is_dead:
                continue
            if not keeps_connections:
                # Neither end hears of it: no packet says so.
                wire.is_dead = True
                wire.caller.cut = wire.server.cut = self._world.now

    def is_cut_off(self, name: str) -> bool:
        """Whether nothing gets through to or from the node now."""
        return name in self._partitioned and self._partitioned[name][0] > self._world.now

    def _cut_off_until(self, name: str) -> float:
        return self._partitioned[name][0] if name in self._partitioned else 0.0

    def _latency(self) -> float:
        return self._dice.uniform(0.0005, self._faults.latency_s_max)
