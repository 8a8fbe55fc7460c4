"""Reports what attempts tell: while they run, and the rest before their end is reported."""

import asyncio
import math
from collections.abc import Callable

from lineshaft_worker.execution.attempts import Attempt
from lineshaft_worker.execution.host import Host
from lineshaft_worker.execution.reports import AttemptEnded, AttemptEvents, Report
from lineshaft_worker.execution.tail import Tail

INLINE_ROUNDS_MAX = 4
"""Batches of an attempt's last events that are read at once; more are read beside other work."""
PATIENCE_S = 30.0
"""For so long at least the last events of an attempt wait for a coordinator that acknowledges
nothing; then its end is reported, and the oldest that there is no room for are dropped, with a
notice."""
LEASE_SHARE = 0.75
"""While a lease is younger than that they wait, too: an end that is reported after it is too late,
and the job would be done again."""
LOOK_S = 0.05
REPEATS_AT_ONCE = 16
"""Batches that an earlier daemon handed out and that are handed out again, in one turn."""


class Feed:
    """Knows how far each attempt's events were reported."""

    def __init__(
        self,
        report: Callable[[Report], None],
        on_drained: Callable[[Host], None],
        on_told: Callable[[Attempt], None],
        *,
        output_bytes_max: int,
    ) -> None:
        self._report = report
        self._on_drained = on_drained
        self._on_told = on_told
        self._output_bytes_max = output_bytes_max
        self._draining: dict[asyncio.Task[None], Host] = {}
        self._is_closing = False
        self._heard_at = -math.inf

    def heard(self, since: float) -> None:
        """Know that leases count from this moment, on `time.monotonic`."""
        self._heard_at = since

    def poll(self, attempt: Attempt) -> None:
        """Report what is new of an attempt that is running."""
        host, tail = attempt.host, self._tail(attempt)
        if host is not None and tail is not None:
            for _ in range(REPEATS_AT_ONCE):
                if not tail.is_repeating:
                    break
                self._tell(attempt, tail, host, [], is_final=True)
            if not tail.is_repeating:
                ends = host.streams.sizes()
                # Asked after the sizes: once it has ended, which we may not have heard, the words
                # of others may follow. (A pipeline job is alone in its runner.)
                is_alone = attempt.kind == "pipeline"
                if tail.is_far_ahead:
                    # It is not silent: it is we who do not listen.
                    if not tail.is_at(ends):
                        self._report(AttemptEvents(attempt.key, ()))
                elif is_alone or host.begins_now(attempt.ticket) is not None:
                    self._tell(attempt, tail, host, ends, is_final=False)

    def end(self, attempt: Attempt, ended: AttemptEnded, ends: list[int] | None) -> None:
        """Report what is left of an attempt, and then its end.

        Args:
            attempt: The attempt that is over.
            ended: What to report last.
            ends: Where the attempt's part of the output ends; None if it never ran.
        """
        if ends == attempt.begins and attempt.tail is None:
            # Most calls are silent, and this is a third of their cost.
            self._over(attempt, ended)
            return
        host, tail = attempt.host, self._tail(attempt) if ends is not None else None
        if tail is None or ends is None or host is None:
            self._over(attempt, ended)
            return
        for _ in range(INLINE_ROUNDS_MAX):
            if tail.is_at(ends):
                self._over(attempt, ended)
                return
            if tail.is_far_ahead:
                break
            self._tell(attempt, tail, host, ends, is_final=True)
        drain = asyncio.create_task(self._drain(attempt, tail, host, ended, ends=ends))
        self._draining[drain] = host
        drain.add_done_callback(self._drained)

    def hurry(self) -> None:
        """From now on wait for no coordinator."""
        self._is_closing = True

    def is_draining(self, host: Host) -> bool:
        """Say whether files of a runner are still being read."""
        return host in self._draining.values()

    async def drained(self) -> None:
        """Wait until every end is reported."""
        while self._draining:
            await asyncio.wait(list(self._draining))

    def _tail(self, attempt: Attempt) -> Tail | None:
        if attempt.tail is None and attempt.host is not None and attempt.ticket:
            begins = attempt.begins or attempt.host.begins_now(attempt.ticket)
            if begins is not None:
                attempt.tail = Tail(
                    attempt.host.folder,
                    attempt.ticket,
                    begins,
                    output_bytes_max=self._output_bytes_max,
                )
        return attempt.tail

    def _tell(
        self, attempt: Attempt, tail: Tail, host: Host, ends: list[int], *, is_final: bool
    ) -> None:
        events = tail.read(host.streams, ends, is_final=is_final)
        if events:
            attempt.has_files = True
            self._report(AttemptEvents(attempt.key, tuple(events)))

    async def _drain(
        self, attempt: Attempt, tail: Tail, host: Host, ended: AttemptEnded, *, ends: list[int]
    ) -> None:
        loop = asyncio.get_running_loop()
        acknowledged, moved_at = tail.acknowledged, loop.time()
        while not tail.is_at(ends):
            if tail.acknowledged != acknowledged:
                acknowledged, moved_at = tail.acknowledged, loop.time()
            until = max(moved_at + PATIENCE_S, self._heard_at + LEASE_SHARE * attempt.lease_s)
            if tail.is_far_ahead and not self._is_closing and loop.time() < until:
                await asyncio.sleep(LOOK_S)
                continue
            self._tell(attempt, tail, host, ends, is_final=True)
            await asyncio.sleep(0)
        self._over(attempt, ended)

    def _over(self, attempt: Attempt, ended: AttemptEnded) -> None:
        self._report(ended)
        self._on_told(attempt)

    def _drained(self, drain: asyncio.Task[None]) -> None:
        host = self._draining.pop(drain)
        if not drain.cancelled():
            drain.result()  # An exception is our bug and must not be lost.
        self._on_drained(host)


def waiting_bytes(attempt: Attempt) -> int:
    """How much of what an attempt told and printed is not acknowledged, in bytes of its files."""
    host, tail = attempt.host, attempt.tail
    if host is None or not attempt.ticket:
        return 0
    begins = attempt.begins if tail is None else tail.kept_from()
    if attempt.is_over:
        ends = attempt.done.ends if attempt.done is not None else []
    else:
        begins, ends = begins or host.begins_now(attempt.ticket) or [], host.streams.sizes()
    # The files of a runner that is gone are closed, and those who had not begun own no part.
    return sum(max(0, end - begin) for begin, end in zip(begins, ends, strict=False))
