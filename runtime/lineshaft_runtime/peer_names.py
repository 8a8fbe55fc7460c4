"""What to call the other end of a socket."""

import asyncio
from typing import cast


def peer_name(transport: asyncio.BaseTransport) -> str:
    """Name the other end of a socket: `host:port`, or `unix`."""
    # Untyped in asyncio; a tuple for both versions of IP, a string for Unix sockets.
    address: object = transport.get_extra_info("peername")
    if not isinstance(address, tuple):
        return "unix"
    host, port = cast("tuple[str, int]", address[:2])
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
