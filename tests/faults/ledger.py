"""A client that keeps books: what was acknowledged to it, and every result it was told."""

import json
import threading
from collections import Counter
from collections.abc import Callable

from tests.e2e.farm import Farm, select_pause
from tests.e2e.rawclient import RawClient
from websockets.exceptions import InvalidHandshake, WebSocketException

from lineshaft_protocol.client_messages import Accepted, Finished, Refused, Submit, ToClient, Watch
from lineshaft_protocol.codec import TO_CLIENT
from lineshaft_protocol.jobs import JobSpec

MakeSpec = Callable[[int], JobSpec]


class LedgerClient:
    """Submits jobs until it is told to stop, whatever happens to its connections.

    It follows the protocol and nothing else: what was not acknowledged is said again, what was
    is asked for, and what was told once must not be told otherwise later.

    Args:
        make: The job of a number.
        in_flight_max: Jobs submitted and not ended, at most.
    """

    def __init__(self, farm: Farm, make: MakeSpec, *, in_flight_max: int) -> None:
        self._farm, self._make, self._in_flight_max = farm, make, in_flight_max
        self._specs: dict[str, JobSpec] = {}
        self.accepted: Counter[str] = Counter()
        self.refused: list[Refused] = []
        self.results: dict[str, list[str]] = {}
        """What was told of each job's end, every time it was told."""
        self.sessions = 0
        self._count = 0
        self._is_stopping = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="ledger client", daemon=True)

    def start(self) -> None:
        """Begin to submit."""
        self._thread.start()

    def finish(self, within_s: float) -> None:
        """Submit no more, and wait until every job has ended."""
        self._is_stopping.set()
        self._thread.join(within_s)
        if self._failure is not None:
            raise self._failure
        waiting = self.open
        assert not self._thread.is_alive(), f"{len(waiting)} jobs never ended: {waiting[:5]}"

    @property
    def open(self) -> list[str]:
        """Jobs that were submitted and have not ended."""
        return [job_id for job_id in tuple(self._specs) if job_id not in self.results]

    def ask_again(self) -> None:
        """Have the end of every job told once more, on a new connection."""
        with RawClient(self._farm) as raw:
            job_ids = [*self.results]
            for start in range(0, len(job_ids), 200):
                part = job_ids[start : start + 200]
                raw.say(*(Watch(job_id=job_id) for job_id in part))
                for _ in part:
                    answer = raw.hear(Finished, Refused)
                    assert isinstance(answer, Finished), f"forgotten: {answer!r}"
                    self._on_message(answer)

    def check(self) -> None:
        """Everything was acknowledged, nothing refused, and nobody told two stories."""
        assert not self.refused, self.refused[:3]
        for job_id in self._specs:
            assert self.accepted[job_id] or job_id in self.results, f"{job_id} was never accepted"
            told = set(self.results[job_id])
            assert len(told) == 1, f"{job_id} ended in {len(told)} ways: {told}"

    def _run(self) -> None:
        try:
            while not (self._is_stopping.is_set() and not self.open):
                try:
                    self._session()
                except (OSError, WebSocketException, InvalidHandshake):
                    select_pause()
        except BaseException as error:  # noqa: BLE001 - raised by finish
            self._failure = error

    def _session(self) -> None:
        with RawClient(self._farm) as raw:
            self.sessions += 1
            waiting = self.open
            raw.say(
                *(
                    Watch(job_id=job_id)
                    if self.accepted[job_id]
                    else Submit(job=self._specs[job_id], is_repeat=True)
                    for job_id in waiting
                )
            )
            in_flight = len(waiting)
            while True:
                while not self._is_stopping.is_set() and in_flight < self._in_flight_max:
                    self._count += 1
                    spec = self._make(self._count)
                    self._specs[spec.job_id] = spec
                    in_flight += 1
                    raw.say(Submit(job=spec))
                if self._is_stopping.is_set() and not in_flight:
                    return
                try:
                    frame = raw.socket.recv(timeout=0.1)
                except TimeoutError:
                    continue
                for message in TO_CLIENT.decode(frame):
                    self._on_message(message)
                    in_flight -= isinstance(message, Finished)

    def _on_message(self, message: ToClient) -> None:
        if isinstance(message, Accepted):
            self.accepted[message.job_id] += 1
        elif isinstance(message, Refused):
            self.refused.append(message)
        elif isinstance(message, Finished):
            told = json.dumps(message.outcome.model_dump(mode="json"), sort_keys=True)
            self.results.setdefault(message.outcome.job_id, []).append(told)
