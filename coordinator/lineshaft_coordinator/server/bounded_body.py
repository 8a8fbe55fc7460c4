"""Reads what a request carries, up to a limit: a body without an end must not fill the memory."""

from starlette.requests import Request

BODY_BYTES_MAX = 2 * 1024 * 1024
"""Enough for any JSON that is asked for."""


class BodyTooLongError(ValueError):
    """A body has more bytes than it may; what came is dropped."""

    def __init__(self, bytes_max: int) -> None:
        super().__init__(f"a body has at most {bytes_max} bytes")
        self.bytes_max = bytes_max


async def bounded_body(request: Request, bytes_max: int = BODY_BYTES_MAX) -> bytes:
    """Read a body whole.

    Raises:
        BodyTooLongError: It is longer.
        ClientDisconnect: The client left meanwhile.
    """
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > bytes_max:
            raise BodyTooLongError(bytes_max)
    return bytes(body)
