"""What launchers and sweeps say in the environment: rank and group, names, parameters."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from lineshaft_records.documents import readable

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
    unreadable: tuple[str, ...]
    """Variables of which a part was replaced, for it was no UTF-8."""

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Self:
        """Read it. What a sweep of expman says comes before what launchers say."""
        said = {readable(name): readable(text) for name, text in environ.items()}
        rank, group = rank_and_group(said)
        name = said.get("EXPMAN_RUN_NAME")
        if name is None and rank is not None and group is not None:
            name = f"{group}-rank{rank}"  # Ranks begin in one second, and are told apart.
        return cls(
            rank=rank,
            group=group,
            base=environ.get("EXPMAN_BASE_DIR") or None,
            run_name=name or None,
            project=said.get("EXPMAN_PROJECT") or None,
            tags=tuple(each for each in said.get("EXPMAN_TAGS", "").split(",") if each),
            params=sweep_params(said),
            unreadable=tuple(
                readable(name)
                for name, text in environ.items()
                if name.startswith("EXPMAN_")
                and name != "EXPMAN_BASE_DIR"  # A path is any bytes.
                and (readable(name), readable(text)) != (name, text)
            ),
        )


def rank_and_group(environ: Mapping[str, str]) -> tuple[int | None, str | None]:
    """Return which rank of which group this process is, by what launchers say."""
    ranks = (environ.get(name, "") for name in RANKS)
    rank = next((int(text) for text in ranks if text.isdecimal()), None)
    job = next((f"job-{environ[name]}" for name in JOBS if environ.get(name)), None)
    return rank, environ.get("EXPMAN_GROUP") or job


def sweep_params(environ: Mapping[str, str]) -> dict[str, int | float | str]:
    """Return what the variables `EXPMAN_PARAM_*` say, by names in small letters.

    What looks like a number is one, for variables hold nothing but texts; what is no UTF-8 in them
    is replaced by U+FFFD.
    """
    return {
        readable(name).removeprefix(PARAM).lower(): _number_or_text(readable(text))
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
