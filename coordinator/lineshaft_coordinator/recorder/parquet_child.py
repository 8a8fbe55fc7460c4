"""The process that looks into one Parquet file: see `parquet_look`."""

import json
import math
import resource
import sys
from collections.abc import Sequence
from typing import Any, Final

from lineshaft_coordinator.recorder.parquet_look import LOOK_S, TOO_LARGE, UNREADABLE, Words
from lineshaft_coordinator.recorder.previews import COLUMNS_MAX, PREVIEW_ROWS, distinct, shown
from lineshaft_coordinator.recorder.seed_words import seed_rows
from lineshaft_records import optional

ANSWER_CHARACTERS_MAX: Final = 16 << 20
BATCH_BYTES_MAX: Final = 64 << 20
ALL_COLUMNS: Final = 1_000_000


def main(arguments: Sequence[str]) -> int:
    """Print the first rows of a file as JSON; returns the exit status."""
    path, words, most = arguments
    resource.setrlimit(resource.RLIMIT_DATA, (int(most), int(most)))
    seconds = math.ceil(LOOK_S)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    try:
        text = json.dumps(_first_rows(path, "seed" if words == "seed" else "page"), default=str)
    except MemoryError:
        return TOO_LARGE
    except Exception as error:  # noqa: BLE001 - whatever a library says about a file of others
        sys.stderr.write(str(error)[:1000])
        return UNREADABLE
    if len(text) > ANSWER_CHARACTERS_MAX:
        return TOO_LARGE
    sys.stdout.write(text)
    return 0


def _first_rows(path: str, words: Words) -> dict[str, Any]:
    optional.arrow().set_cpu_count(1)
    with optional.parquet().ParquetFile(path) as file:
        names, count = file.schema_arrow.names, file.metadata.num_rows
        wanted = names[: COLUMNS_MAX if words == "page" else ALL_COLUMNS]
        batches = file.iter_batches(batch_size=PREVIEW_ROWS, columns=wanted)
        first: Any = next(batches, None)
        if first is not None and first.nbytes > BATCH_BYTES_MAX:
            raise MemoryError
        columns = distinct(wanted if first is None else first.schema.names[: len(wanted)])
        values: list[list[Any]] = []
        for column in () if first is None else first.columns[: len(wanted)]:
            told = column.to_pylist()
            values.append([shown(each) for each in told] if words == "page" else told)
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]
    return {
        "columns": columns,
        "rows": rows if words == "page" else seed_rows(rows),
        "total_rows": count,
        "total_columns": len(names),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
