"""Jobs that ended lately: the last ones as a whole, and of many more how they ended.

The history on disk has all of them. What stands here answers at once, and it has a limit in jobs
and in characters, since a job may carry as much as its messages may.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

from lineshaft_coordinator.core.plain import is_plain
from lineshaft_protocol.ids import JobId
from lineshaft_protocol.jobs import JobSpec
from lineshaft_protocol.outcomes import Outcome, Status
from lineshaft_protocol.values import value

WHOLE_MAX = 1_000
"""Jobs that are kept as a whole."""
CHARACTERS_MAX = 8 * 1024 * 1024
"""What they may hold together, about; the last one is kept however large it is."""
ENDED_MAX = 20_000
"""Jobs of which is known how they ended: more than one job may come after."""

ENDS_MAX = 1_000
"""Different ends that are kept to be shared."""
End = tuple[Status, int, str | None]
"""How a job ended, with which attempt, and on which worker."""

NAME_CHARACTERS = 80
"""Of a digest or an id, with what Python needs for it."""


@value()
class Done:
    """A job that ended."""

    spec: JobSpec
    outcome: Outcome

    def characters(self) -> int:
        """About how much it holds beyond what every job has."""
        spec, result, failure = self.spec, self.outcome.result, self.outcome.failure
        given, params = spec.payload.inline, spec.params
        returned = result.inline if result is not None else None
        if failure is None and is_plain(spec):
            return len(given or "") + len(params or "") + len(returned or "")
        texts = [given, params, returned]
        if spec.variables is not None:
            texts += spec.variables.values()
        if spec.environment is not None and spec.environment.requirements is not None:
            texts.append(spec.environment.requirements.inline)
        if failure is not None:
            texts += [failure.message, failure.traceback, failure.pickled, *failure.last_lines]
        names = len(spec.files or ()) + len(spec.after or ())
        return sum([len(text) for text in texts if text]) + names * NAME_CHARACTERS


@dataclass(slots=True)
class Lately:
    """The jobs that ended last, in the order of their ends."""

    whole_max: int = field(default_factory=lambda: WHOLE_MAX)
    _whole: OrderedDict[JobId, tuple[Done, int]] = field(
        default_factory=OrderedDict[JobId, tuple[Done, int]]
    )
    """With how many characters each holds."""
    _characters: int = 0
    _ended: OrderedDict[JobId, End] = field(default_factory=OrderedDict[JobId, End])
    _ends: dict[End, End] = field(default_factory=dict[End, End])
    """Each different end once: most of thousands of jobs ended like some other."""

    def add(self, job_id: JobId, done: Done) -> None:
        """Keep an ended job at hand, in place of those that ended longest ago."""
        whole, ended = self._whole, self._ended
        if job_id in ended:
            self._forget(job_id)
            del ended[job_id]
        size = done.characters()
        whole[job_id] = (done, size)
        self._characters += size
        while len(whole) > self.whole_max or self._characters > CHARACTERS_MAX:
            if len(whole) == 1:
                break
            _, (_, size) = whole.popitem(last=False)
            self._characters -= size
        outcome = done.outcome
        end = outcome.status, outcome.attempt, outcome.worker_id
        ended[job_id] = self._ends.setdefault(end, end)
        if len(self._ends) > ENDS_MAX:
            self._ends.clear()
        if len(ended) > ENDED_MAX:
            ended.popitem(last=False)

    def _forget(self, job_id: JobId) -> None:
        if (kept := self._whole.pop(job_id, None)) is not None:
            self._characters -= kept[1]

    def get(self, job_id: JobId) -> Done | None:
        """The job as a whole; if there is none, it may have ended all the same."""
        kept = self._whole.get(job_id)
        return kept[0] if kept is not None else None

    def status(self, job_id: JobId) -> Status | None:
        """How it ended, if it is among the last ones."""
        end = self._ended.get(job_id)
        return end[0] if end is not None else None

    def is_end_of(self, job_id: JobId, attempt: int, worker_id: str) -> bool:
        """Tell whether it ended with this attempt, on this worker, if it is among the last ones."""
        end = self._ended.get(job_id)
        return end is not None and end[1:] == (attempt, worker_id)

    def __contains__(self, job_id: object) -> bool:
        return job_id in self._ended

    def __iter__(self) -> Iterator[JobId]:
        return iter(self._ended)

    def pop(self, job_id: JobId) -> None:
        """Forget that it ended; no error if nothing is known of it."""
        self._forget(job_id)
        self._ended.pop(job_id, None)
