"""A port of this machine that is kept free for the next gang whose rank 0 runs here.

It is bound and not listened on, so that nobody else is given it between the moment the coordinator
tells it to all ranks and the moment rank 0 begins; then it is let go, and another one is kept.
"""

import contextlib
import socket
from urllib.parse import urlsplit

from lineshaft_protocol.worker_messages import GangSeat, MeetingPlace


class MeetingPort:
    """Keeps one port.

    Args:
        address: Under which workers on other machines reach this one.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._socket: socket.socket | None = None
        self._place: MeetingPlace | None = None

    def place(self) -> MeetingPlace | None:
        """Where a gang can meet; None if no port is to be had now."""
        if self._socket is None:
            with contextlib.suppress(OSError):
                self._open()
        return self._place

    def _open(self) -> None:
        has_ipv6 = ":" in self._address
        made = socket.socket(socket.AF_INET6 if has_ipv6 else socket.AF_INET, socket.SOCK_STREAM)
        try:
            made.bind(("", 0))
        except OSError:
            made.close()
            raise
        self._socket = made
        self._place = MeetingPlace(address=self._address, port=made.getsockname()[1])

    def give_out(self) -> MeetingPlace | None:
        """Let the port go, for a rank 0 that begins now; returns where the next gang can meet."""
        # The next one first: so it is another.
        given, self._socket = self._socket, None
        following = self.place()
        if given is not None:
            given.close()
        return following

    def close(self) -> None:
        """Let the port go."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def address_towards(url: str) -> str:
    """Return the address of this machine from which the coordinator is reached.

    Nothing is sent: the kernel is asked which way a packet would go. Blocks while the name is
    looked up. Where that fails it is the machine's name.
    """
    parts = urlsplit(url)
    with contextlib.suppress(OSError, ValueError):
        host, port = parts.hostname or "", parts.port or 443
        for family, kind, _, _, target in socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM):
            with socket.socket(family, kind) as probe:
                probe.connect(target)
                return str(probe.getsockname()[0])
    return socket.gethostname()


def variables_of(seat: GangSeat | None) -> dict[str, str]:
    """Return what tells a rank its place, in the variables that torchrun sets."""
    if seat is None:
        return {}
    rank, nodes = str(seat.rank), str(seat.nodes)
    return {
        "MASTER_ADDR": seat.meeting.address,
        "MASTER_PORT": str(seat.meeting.port),
        "RANK": rank,
        "WORLD_SIZE": nodes,
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1",
        "GROUP_RANK": rank,
        "GROUP_WORLD_SIZE": nodes,
    }
