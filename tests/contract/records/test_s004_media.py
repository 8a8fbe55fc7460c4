"""Seed 004's histograms, images, sounds and films: told by our runs, read by the real expman."""

import io
import json
import math
import os
import struct
import wave
import zlib
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import cast

import numpy as np
import pytest
from tests.e2e.farm import DEADLINE_S

from lineshaft_records import Run, keeper
from lineshaft_records.catalog import Catalog
from lineshaft_records.documents import RunInfo, make_experiment, write_info
from lineshaft_records.encoding import image_file, sound_file
from lineshaft_records.histograms import histogram_body
from lineshaft_records.keeper import Keeper
from lineshaft_records.layout import RunFolder, run_folder
from lineshaft_records.side_tables import HISTOGRAMS, read_rows
from lineshaft_records.writer import RunWriter
from lineshaft_runtime.spool import SpoolWriter

WEIGHTS = np.linspace(-2.0, 5.0, 1001) ** 3
TOLD = 12


class KilledError(Exception):
    """Stands in for the end of a process."""


@pytest.fixture(scope="module")
def expman() -> ModuleType:
    found: ModuleType = pytest.importorskip("expman", reason="expman-rs is not installed")
    return found


def opened(base: Path) -> Run:
    return Run("e", "r", base=base, console=False, provenance=False)


def test_s004_18_histograms_are_those_that_expman_would_keep(
    expman: ModuleType, tmp_path: Path
) -> None:
    brief = [1.0, 2.0, 2.0, 9.0]
    theirs = expman.Experiment(
        "e", "theirs", str(tmp_path), redirect_console=False, system_metrics_interval_secs=0
    )
    with opened(tmp_path) as ours, theirs:
        for run in (ours, theirs):
            run.log_histogram("w/x", WEIGHTS, step=3, bins=7)
            run.log_histogram("brief", brief)
            run.log_histogram("counted", step=4, edges=[0, 1, 2.5], counts=[3, 0])

    told, wanted = (expman.read_histograms(str(tmp_path / "e" / each)) for each in ("r", "theirs"))
    assert len(told) == 3
    for row, their in zip(told, wanted, strict=True):
        assert row.keys() == their.keys()
        for key in ("tag", "step", "total", "counts"):
            assert row[key] == their[key]
        assert json.loads(row["edges"]) == pytest.approx(json.loads(their["edges"]))


def test_s004_18_histograms_are_told_while_the_run_goes_on(tmp_path: Path) -> None:
    with opened(tmp_path) as run, closing(Catalog(tmp_path)) as catalog:
        run.log_histogram("a", [1, 2], step=1, bins=2)
        run.log_histogram("b", [float("nan"), 4.0, float("inf")], step=2, bins=1)
        assert run.flush(DEADLINE_S)

        found = catalog.histograms(run="r")
        of_b = catalog.histograms(run="r", tag="b", limit=1)

    assert (found["tags"], found["there_are"]) == (["a", "b"], 2)
    assert found["histograms"][0]["edges"] == [1.0, 1.5, 2.0]
    assert [(each["step"], each["counts"]) for each in of_b["histograms"]] == [(2, [1])]


def test_what_is_no_histogram_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="512 counts and one edge more, not 2 counts and 2 edges"):
        histogram_body("a", edges=[0, 1], counts=[1, 1])
    with pytest.raises(ValueError, match="1 to 512 bins, not 0"):
        histogram_body("a", [1.0], bins=0)
    with pytest.raises(ValueError, match="edges of a histogram are finite"):
        histogram_body("a", edges=[0, float("inf")], counts=[1])
    with pytest.raises(ValueError, match="needs values"):
        histogram_body("a")
    with pytest.raises(TypeError, match="of numbers, not of list"):
        histogram_body("a", ["x"])


def spooled(base: Path) -> RunFolder:
    """A run that told histograms and ended, and that nobody has kept yet."""
    folder = run_folder(base, "e", "r")
    make_experiment(folder.path.parent)
    folder.live.mkdir(parents=True)
    write_info(folder, RunInfo(name="r", experiment="e", started_at=datetime.now(UTC)))
    spool = SpoolWriter(str(folder.spool))
    for step in range(TOLD):
        spool.write("histogram", histogram_body("a", [1.0, 2.0], step=step, bins=2))
    spool.write("close", {"status": "FINISHED"})
    return folder


@pytest.mark.parametrize("flush", range(4))
def test_s004_18_a_histogram_is_there_once_wherever_its_keeper_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flush: int
) -> None:
    folder = spooled(tmp_path)
    monkeypatch.setattr(keeper, "READ_BYTES", 400)
    append, left = RunWriter.append, [flush]

    def append_and_die(self: RunWriter, *what: object) -> None:
        if not left[0]:
            raise KilledError  # The histograms are written, and nobody knows how many.
        left[0] -= 1
        append(self, *what)  # type: ignore[arg-type]

    with monkeypatch.context() as planted:
        planted.setattr(RunWriter, "append", append_and_die)
        earlier = Keeper(folder, flush_rows=1, flush_s=0.0)
        with pytest.raises(KilledError):
            earlier.finish("CRASHED")
        earlier.writer.leave()

    keeper.run(folder, os.getpid(), flush_rows=1, flush_s=0.0)

    assert not folder.live.exists()
    assert [row.step for row in read_rows(folder, HISTOGRAMS)] == list(range(TOLD))


def test_s004_18_images_sounds_and_films_are_listed_as_expman_lists_them(
    expman: ModuleType, tmp_path: Path
) -> None:
    theirs = expman.Experiment(
        "e", "theirs", str(tmp_path), redirect_console=False, system_metrics_interval_secs=0
    )
    with opened(tmp_path) as ours, theirs:
        for run in (ours, theirs):
            run.log_image("in/a b", b"\x89PNG not really", step=3)
            run.log_audio("voice", b"RIFF", step=12345678901)
            run.log_video("film", b"mp4")

    told = {
        name: [
            {key: each[key] for key in ("tag", "step", "file", "bytes")}
            for each in expman.read_media(str(tmp_path / "e" / name))
        ]
        for name in ("r", "theirs")
    }
    assert told["r"] == told["theirs"]
    for each in told["r"]:
        assert (tmp_path / "e" / "r" / each["file"]).stat().st_size == each["bytes"]


def test_s004_18_media_are_among_the_files_of_a_run_and_never_replaced(tmp_path: Path) -> None:
    with opened(tmp_path) as run, closing(Catalog(tmp_path)) as catalog:
        for data in (b"one", b"two"):
            run.log_audio("../up", data, step=1)

        files = [each["path"] for each in catalog.run(run="r")["artifacts"]]
        places = [catalog.path(run="r", file=each) for each in files]

        assert catalog.path(run="r", file="media/../run.log") is None
        assert catalog.path(run="r", file="media.jsonl") is None
    assert [Path(each).read_bytes() for each in places if each] == [b"one", b"two"]
    assert all(Path(each).parent == run.path / "media" for each in places if each)


def pixels(data: bytes) -> tuple[int, int, int, bytes]:
    """Width, height, type of colour, and the rows of a PNG without filters."""
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    parts: dict[bytes, bytes] = {}
    place = 8
    while place < len(data):
        (size,) = struct.unpack_from(">I", data, place)
        kind, body = data[place + 4 : place + 8], data[place + 8 : place + 8 + size]
        assert struct.unpack_from(">I", data, place + 8 + size) == (zlib.crc32(kind + body),)
        parts[kind] = body
        place += 12 + size
    width, height, depth, colour, *_ = struct.unpack(">IIBBBBB", parts[b"IHDR"])
    assert depth == 8
    return width, height, colour, zlib.decompress(parts[b"IDAT"])


def test_arrays_become_pictures() -> None:
    red = np.zeros((3, 2, 5))
    red[0] = [[0.0, 0.5, 1.0, 2.0, np.nan]] * 2

    data, extension = image_file(red)
    grey, _ = image_file(np.array([[0, 255]], dtype="uint8"))
    small, _ = image_file(np.zeros((3, 3, 3)), "HWC")

    row = b"\0" + bytes([0, 0, 0, 128, 0, 0, 255, 0, 0, 255, 0, 0, 0, 0, 0])
    assert (extension, pixels(data)) == ("png", (5, 2, 2, row * 2))
    assert pixels(grey) == (2, 1, 0, b"\0\0\xff")
    assert pixels(small)[:3] == (3, 3, 2)
    assert image_file(b"\xff\xd8\xff..")[1] == "jpg"
    with pytest.raises(ValueError, match=r"shape \(5, 5, 5\) is no image"):
        image_file(np.zeros((5, 5, 5)))
    with pytest.raises(TypeError, match="dict is no image"):
        image_file({})


def test_arrays_become_sounds() -> None:
    data, extension = sound_file(np.array([[0.0, 1.0, -2.0]]), 8000)

    with wave.open(io.BytesIO(data)) as sound:
        assert (extension, sound.getframerate(), sound.getnchannels()) == ("wav", 8000, 1)
        assert struct.unpack("<3h", sound.readframes(9)) == (0, 32767, -32767)


class BrainFloat:
    """A tensor of a type that NumPy does not have, as PyTorch's bfloat16."""

    shape = (2,)

    def __array__(self, *_: object, **__: object) -> np.ndarray:
        raise TypeError("Got unsupported ScalarType BFloat16")

    def float(self) -> np.ndarray:
        return np.array([1.0, 3.0])


@pytest.mark.parametrize("kind", [list, np.array])
@pytest.mark.parametrize(
    "numbers",
    [[1.0, math.nextafter(1.0, 2.0)], [0.0, 5e-324], [1e17, 1e17], [-1e308, 1e308], [1.7e308] * 2],
)
def test_numbers_that_are_nearly_the_same_or_far_apart_fail_no_program(
    kind: Callable[[list[float]], object], numbers: list[float]
) -> None:
    said = histogram_body("w", kind(numbers))

    counts, edges = cast("list[int]", said["counts"]), cast("list[float]", said["edges"])
    assert sum(counts) == len(numbers)
    assert all(map(math.isfinite, edges))
    assert edges == sorted(edges)


def test_tensors_of_types_that_numpy_has_not_are_counted_and_drawn() -> None:
    assert sum(cast("list[int]", histogram_body("w", BrainFloat())["counts"])) == 2
    assert sound_file(BrainFloat(), 8000)[1] == "wav"


def test_counts_that_no_file_holds_are_refused_and_what_is_no_number_too() -> None:
    for counts in ([float("inf")], [10**400]):
        with pytest.raises(ValueError, match="count"):
            histogram_body("w", edges=[0, 1], counts=cast("list[int]", counts))
    with pytest.raises(TypeError, match="of numbers"):
        histogram_body("w", np.array(["a", "b"]))


def test_steps_are_those_of_any_library_and_odd_ones_end_no_record(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        for step in (np.int64(3), 4.0, np.float32(5.0), 10**30, 0.5):
            run.log_histogram("w", [1.0, 2.0], cast("int", step))
            run.log_image("w", np.zeros((2, 2)), cast("int", step))
        SpoolWriter(str(run.folder.spool)).write(
            "histogram", {"tag": "w", "step": 10**30, "edges": [0, 1], "counts": ["a"]}
        )
        SpoolWriter(str(run.folder.spool)).write(
            "histogram", {"tag": "\ud800", "step": 10**30, "edges": [0, 1], "counts": [1]}
        )

    wanted = [3, 4, 5, None, None]
    assert [row.step for row in read_rows(run.folder, HISTOGRAMS)] == [*wanted, None]
    with closing(Catalog(tmp_path)) as catalog:
        kept = catalog.run(run="e/r")["artifacts"]
    assert [each["step"] for each in kept] == wanted
