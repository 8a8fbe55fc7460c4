"""All of seed 000, put together."""

from pathlib import Path

from lineshaft_coordinator.feeds.hub import Hub, Source
from lineshaft_coordinator.server.admission import Tokens
from lineshaft_coordinator.server.guard import Guard
from lineshaft_coordinator.server.questions import Questions
from lineshaft_coordinator.training_runs.answering import Answering
from lineshaft_coordinator.training_runs.book import RunBook
from lineshaft_coordinator.training_runs.desk import Cancel, RunDesk
from lineshaft_coordinator.training_runs.gauges import Machine
from lineshaft_coordinator.training_runs.gpu_gauges import mean_busy
from lineshaft_coordinator.training_runs.job_runs import JobRuns
from lineshaft_coordinator.training_runs.model_routes import ModelRoutes
from lineshaft_coordinator.training_runs.models import ModelLimits, Models
from lineshaft_coordinator.training_runs.notebooks import Notebooks
from lineshaft_coordinator.training_runs.routes import RunRoutes
from lineshaft_coordinator.training_runs.system_routes import SystemRoutes


class TrainingRuns:
    """Seed 000's part of a coordinator.

    Args:
        data: The coordinator's folder.
        questions: Answers about jobs.
        source: News of jobs.
        job_hub: Who looks at jobs.
        cancel: Asks for the end of a job.
        limits: How long uploads of models may be.
    """

    def __init__(
        self,
        data: Path,
        questions: Questions,
        source: Source,
        job_hub: Hub,
        cancel: Cancel,
        *,
        limits: ModelLimits,
    ) -> None:
        self._limits = limits
        self._questions = questions
        self._book = RunBook(data)
        self._desk = RunDesk(self._book, JobRuns(questions, source), job_hub, cancel)
        self._models, self._notebooks = (
            Models(self._book, bytes_max=limits.total_bytes_max),
            Notebooks(self._book),
        )
        self._machine = Machine(lambda: mean_busy(questions.workers()))

    @property
    def hub(self) -> Hub:
        """Who looks at reported runs."""
        return self._desk.hub

    def groups(self, guard: Guard, tokens: Tokens) -> tuple[RunRoutes, ModelRoutes, SystemRoutes]:
        """What it serves."""
        answering = Answering(guard)
        return (
            RunRoutes(self._desk, answering),
            ModelRoutes(
                self._models,
                self._notebooks,
                answering,
                upload_bytes_max=self._limits.upload_bytes_max,
            ),
            SystemRoutes(
                self._questions, self._desk, self._models, self._machine, tokens, answering
            ),
        )

    async def close(self) -> None:
        """Let go of files."""
        self._machine.close()
        await self._book.close()
