"""A client that says exactly what a test wants said."""

import time
from contextlib import ExitStack
from types import TracebackType
from typing import Self

import pytest
from tests.e2e.farm import Farm
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from lineshaft_protocol.client_messages import (
    Accepted,
    ClientHello,
    Finished,
    Refused,
    Submit,
    ToClient,
)
from lineshaft_protocol.codec import TO_CLIENT, Codec
from lineshaft_protocol.jobs import JobSpec
from lineshaft_protocol.versions import Versions
from lineshaft_protocol.wire import Wire


class RawClient:
    def __init__(self, farm: Farm, *, path: str = "/v1/client", says_hello: bool = True) -> None:
        token = (farm.home / "token").read_text().strip()
        self._stack = ExitStack()
        self.socket: ClientConnection = self._stack.enter_context(
            connect(
                farm.url + path,
                additional_headers={"Authorization": f"Bearer {token}"},
                max_size=None,
            )
        )
        self._inbox: list[ToClient] = []
        if says_hello:
            self.say(ClientHello(client_id="raw", versions=Versions()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def say(self, *messages: Wire) -> None:
        for frame in Codec.encode_batches(map(Codec.encode, messages)):
            self.socket.send(frame, text=True)

    def hear(self, *kinds: type[ToClient], within_s: float = 20.0) -> ToClient:
        deadline = time.monotonic() + within_s
        while True:
            for message in self._inbox:
                if isinstance(message, kinds):
                    self._inbox.remove(message)
                    return message
            frame = self.socket.recv(timeout=max(0.01, deadline - time.monotonic()))
            self._inbox += TO_CLIENT.decode(frame)

    def submit(self, spec: JobSpec) -> Refused:
        """Submit until it is refused: right after its start a coordinator refuses nothing."""
        count = 0
        while True:
            count += 1
            named = spec.model_copy(update={"job_id": f"{spec.job_id}-{count}"})
            self.say(Submit(job=named))
            answer = self.hear(Refused, Accepted)
            if isinstance(answer, Refused):
                return answer
            assert count < 10_000, "never refused"

    def outcome(self) -> Finished:
        answer = self.hear(Finished)
        assert isinstance(answer, Finished)
        return answer

    def end(self) -> tuple[int, str]:
        """How the coordinator ended the session."""
        with pytest.raises(ConnectionClosed) as closed:
            self._listen_to_the_end()
        assert closed.value.rcvd is not None
        return closed.value.rcvd.code, closed.value.rcvd.reason

    def _listen_to_the_end(self) -> None:
        while True:
            self.socket.recv(timeout=20)
