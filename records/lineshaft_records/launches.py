"""What launchers and sweeps say in the environment: rank and group, names, parameters."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

RANKS: Final = (
    "EXPMAN_RANK",
    "RANK",
    "SLURM_PROCID",
    "OMPI_COMM_WORLD_RANK",
    "PMI_RANK",
    "LOCAL_RANK",
)
JOBS: Final = (
    "SLURM_ARRAY_JOB_ID",
    "SLURM_JOB_ID",
    "TORCHELASTIC_RUN_ID",
    "PBS_JOBID",
    "LSB_JOBID",
)
PARAM: Final = "EXPMAN_PARAM_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How this process was started, as far as it matters to its record."""

    rank: int | None
    group: str | None
    base: str | None
    """Where records go, whatever the program says."""
    run_name: str | None
    project: str | None
    tags: tuple[str, ...]
    params: Mapping[str, int | float | str]

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Self:
        """Read it. What a sweep of expman says comes before what launchers say."""
        rank, group = rank_and_group(environ)
        name = environ.get("EXPMAN_RUN_NAME")
        if name is None and rank is not None and group is not None:
            name = f"{group}-rank{rank}"  # Ranks begin in one second, and are told apart.
        return cls(
            rank=rank,
            group=group,
            base=environ.get("EXPMAN_BASE_DIR") or None,
            run_name=name or None,
            project=environ.get("EXPMAN_PROJECT") or None,
            tags=tuple(each for each in environ.get("EXPMAN_TAGS", "").split(",") if each),
            params=sweep_params(environ),
        )


def rank_and_group(environ: Mapping[str, str]) -> tuple[int | None, str | None]:
    """Return which rank of which group this process is, by what launchers say."""
    ranks = (environ.get(name, "") for name in RANKS)
    rank = next((int(text) for text in ranks if text.isdecimal()), None)
    job = next((f"job-{environ[name]}" for name in JOBS if environ.get(name)), None)
    return rank, environ.get("EXPMAN_GROUP") or job


def sweep_params(environ: Mapping[str, str]) -> dict[str, int | float | str]:
    """Return what the variables `EXPMAN_PARAM_*` say, by names in small letters.

    What looks like a number is one, for variables hold nothing but texts.
    """
    return {
        name.removeprefix(PARAM).lower(): _number_or_text(text)
        for name, text in environ.items()
        if name.startswith(PARAM)
    }


def _number_or_text(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
