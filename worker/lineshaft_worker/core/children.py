"""Child jobs that running plans wait for: a plan has no slot meanwhile, and needs one to go on."""

from collections import OrderedDict

from lineshaft_protocol.ids import JobId
from lineshaft_protocol.jobs import JobSpec
from lineshaft_protocol.outcomes import Outcome
from lineshaft_worker.core.attempts import Attempt, Bench
from lineshaft_worker.core.io import AnswerChild, AttemptKey, Effect


class Children:
    """Knows which attempt waits for which job."""

    def __init__(self, bench: Bench, effects: list[Effect]) -> None:
        self._bench, self._effects = bench, effects
        self._resuming: OrderedDict[AttemptKey, list[Outcome]] = OrderedDict()
        """Plans whose child has ended and that wait for a free slot."""
        self._parents: dict[JobId, AttemptKey] = {}

    def ask(self, attempt: Attempt, spec: JobSpec) -> None:
        """The attempt waits for this job: others may have its slot."""
        attempt.children[JobId(spec.job_id)] = spec
        self._parents[JobId(spec.job_id)] = attempt.key
        self._bench.suspend(attempt)

    def on_finished(self, outcome: Outcome) -> None:
        """A child job ended: its plan goes on as soon as there is a slot for it."""
        key = self._parents.pop(JobId(outcome.job_id), None)
        attempt = self._bench.attempts.get(key) if key is not None else None
        if attempt is not None:
            attempt.children.pop(JobId(outcome.job_id), None)
            self._resuming.setdefault(attempt.key, []).append(outcome)

    def resume(self) -> None:
        """Let plans go on whose children have ended, as far as there are slots."""
        for key in tuple(self._resuming):
            attempt = self._bench.attempts[key]
            # While another thread of it waits for a child its slot is still given away: that child
            # may be waiting for this very slot.
            if not attempt.children:
                if attempt.is_suspended and not self._bench.has_free_slot():
                    continue
                self._bench.resume(attempt)
            for outcome in self._resuming.pop(key):
                self._effects.append(AnswerChild(key, outcome))

    def abandon(self, attempt: Attempt) -> None:
        """The attempt is over and waits for nothing any more."""
        while attempt.children:
            self._parents.pop(attempt.children.popitem()[0], None)
        self._resuming.pop(attempt.key, None)
