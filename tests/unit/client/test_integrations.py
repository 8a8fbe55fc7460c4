"""Callbacks of frameworks, against the interface of the real ones where they are installed.

torch, lightning and transformers are 2 GB that few contributors want: without them a stand-in has
the few names that our adapters use. With them installed, the last tests train for real.
"""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lineshaft_runtime import spool
from lineshaft_runtime.spool import JobContext, SpoolWriter
from lineshaft_runtime.spool_lines import parse_line


class Job:
    """The spool of an attempt that this process pretends to execute."""

    def __init__(self, folder: Path) -> None:
        self.pause_file = folder / "pause"
        self._spool = folder / "spool"
        files = (str(folder / "kept"), str(self.pause_file), str(folder / "resume"))
        spool.attach(JobContext(SpoolWriter(str(self._spool)), files=files))

    def told(self) -> list[tuple[str, dict[str, object]]]:
        lines = [parse_line(line) for line in self._spool.read_bytes().splitlines()]
        return [(line.kind, line.body) for line in lines if line is not None]


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    yield Job(tmp_path)
    spool.attach(JobContext(None))


@pytest.fixture(params=["lightning.pytorch", "pytorch_lightning", "transformers"])
def standin(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A framework that has just its callback class."""
    name: str = request.param
    module = ModuleType(name)
    module.Callback = module.TrainerCallback = type("Callback", (), {})  # type: ignore[attr-defined]
    for other in ("lightning", "lightning.pytorch", "pytorch_lightning", "transformers"):
        monkeypatch.delitem(sys.modules, other, raising=False)
    monkeypatch.setitem(sys.modules, name, module)
    kind = "huggingface" if name == "transformers" else "lightning"
    monkeypatch.delitem(sys.modules, f"lineshaft.integrations.{kind}", raising=False)
    yield name
    sys.modules.pop(f"lineshaft.integrations.{kind}", None)


def callback(kind: str, *args: object) -> Any:
    return importlib.import_module(f"lineshaft.integrations.{kind}").RunCallback(*args)


def test_a_callback_is_one_of_the_framework_that_is_loaded(standin: str) -> None:
    kind = "huggingface" if standin == "transformers" else "lightning"

    made = callback(kind)

    assert isinstance(made, sys.modules[standin].Callback)


@pytest.mark.parametrize("standin", ["transformers"], indirect=True)
def test_a_hugging_face_trainer_tells_steps_logs_and_checkpoints(
    standin: str, job: Job, tmp_path: Path
) -> None:
    del standin
    made = callback("huggingface")
    state = SimpleNamespace(global_step=5, max_steps=10, is_world_process_zero=True)
    control = SimpleNamespace(should_save=False, should_training_stop=False)
    (tmp_path / "out" / "checkpoint-5").mkdir(parents=True)
    (tmp_path / "out" / "checkpoint-5" / "model").write_bytes(b"weights")
    args = SimpleNamespace(output_dir=str(tmp_path / "out"))

    made.on_step_end(args, state, control, model=None)
    made.on_log(args, state, control, logs={"loss": 0.5}, model=None)
    made.on_save(args, state, control, model=None)

    assert not control.should_training_stop
    progress, metrics, checkpoint = job.told()
    assert progress == ("progress", {"step": 5, "total": 10, "phase": "train"})
    assert metrics == ("metrics", {"metrics": {"loss": 0.5}, "step": 5})
    assert (checkpoint[0], checkpoint[1]["step"]) == ("checkpoint", 5)


@pytest.mark.parametrize("standin", ["transformers"], indirect=True)
def test_a_hugging_face_trainer_saves_and_stops_when_the_job_should_pause(
    standin: str, job: Job
) -> None:
    del standin
    made = callback("huggingface")
    state = SimpleNamespace(global_step=5, max_steps=10, is_world_process_zero=False)
    control = SimpleNamespace(should_save=False, should_training_stop=False)
    job.pause_file.touch()

    made.on_step_end(None, state, control)

    assert (control.should_save, control.should_training_stop) == (True, True)


class Trainer:
    """What our callback uses of Lightning's."""

    def __init__(self, *, is_global_zero: bool = True) -> None:
        self.global_step = 5
        self.estimated_stepping_batches = 10.0
        self.is_global_zero = is_global_zero
        self.sanity_checking = self.should_stop = False
        self.logged_metrics = {"loss": 0.5}
        self.callback_metrics = {"val": 0.25}

    def save_checkpoint(self, filepath: str) -> None:
        Path(filepath).write_bytes(b"weights")


@pytest.mark.parametrize("standin", ["lightning.pytorch"], indirect=True)
def test_a_lightning_trainer_tells_steps_and_numbers(standin: str, job: Job) -> None:
    del standin
    made, trainer = callback("lightning"), Trainer()

    made.on_train_batch_end(trainer, None, None, None, 0)
    made.on_validation_end(trainer, None)
    trainer.estimated_stepping_batches = float("inf")
    trainer.logged_metrics = {}
    made.on_train_batch_end(trainer, None, None, None, 1)
    made.on_train_batch_end(Trainer(is_global_zero=False), None, None, None, 0)

    assert job.told() == [
        ("progress", {"step": 5, "total": 10, "phase": "train"}),
        ("metrics", {"metrics": {"loss": 0.5}, "step": 5}),
        ("metrics", {"metrics": {"val": 0.25}, "step": 5}),
        ("progress", {"step": 5, "total": None, "phase": "train"}),
    ]


@pytest.mark.parametrize("standin", ["lightning.pytorch"], indirect=True)
def test_a_lightning_trainer_saves_once_and_stops_when_the_job_should_pause(
    standin: str, job: Job, tmp_path: Path
) -> None:
    del standin
    made, trainer = callback("lightning", str(tmp_path / "paused.ckpt")), Trainer()
    job.pause_file.touch()

    made.on_train_batch_end(trainer, None, None, None, 0)
    made.on_train_batch_end(trainer, None, None, None, 1)

    assert trainer.should_stop
    assert [kind for kind, _ in job.told()].count("checkpoint") == 1


def test_s004_18_what_is_written_to_tensorboard_becomes_metrics(job: Job) -> None:
    from lineshaft.integrations.tensorboard import SummaryWriter  # noqa: PLC0415 - as the others

    with SummaryWriter("runs/1", flush_secs=1) as writer:
        writer.add_scalar("loss", 0.5, 3)
        writer.add_scalars("rate", {"a": 1, "b": 2}, global_step=4)
        writer.add_text("note", "hello", 5)
        writer.add_hparams({"lr": 0.1}, {"best": 1.0})
        writer.add_graph(object())
        writer.add_graph(object())
        writer.flush()

    assert job.told() == [
        ("metrics", {"metrics": {"loss": 0.5}, "step": 3}),
        ("metrics", {"metrics": {"rate/a": 1, "rate/b": 2}, "step": 4}),
        ("metrics", {"metrics": {"note": "hello"}, "step": 5}),
        ("metrics", {"metrics": {"hparam/lr": 0.1, "best": 1.0}, "step": None}),
        (
            "notice",
            {"code": "left_out", "text": "add_graph is left out: a run has no place for it"},
        ),
    ]
    with pytest.raises(AttributeError, match="file_writer"):
        writer.file_writer  # noqa: B018 - looking is the test


def test_the_real_hugging_face_trainer_takes_the_callback(job: Job) -> None:
    transformers: Any = pytest.importorskip("transformers", reason="needs transformers")
    made = callback("huggingface")
    handler_module: Any = importlib.import_module("transformers.trainer_callback")
    state = transformers.TrainerState(global_step=2, max_steps=4, is_world_process_zero=True)
    control = transformers.TrainerControl()
    handler = handler_module.CallbackHandler([made], None, None, None, None)

    handler.on_step_end(SimpleNamespace(output_dir=None), state, control)
    handler.on_log(SimpleNamespace(output_dir=None), state, control, {"loss": 1.0})

    assert [kind for kind, _ in job.told()] == ["progress", "metrics"]


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_real_lightning_trainer_trains_with_the_callback(job: Job, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs torch")
    lightning: Any = pytest.importorskip("lightning.pytorch", reason="needs lightning")
    demos: Any = importlib.import_module("lightning.pytorch.demos.boring_classes")
    made = callback("lightning", str(tmp_path / "paused.ckpt"))
    trainer = lightning.Trainer(
        max_steps=3, callbacks=[made], logger=False, default_root_dir=tmp_path, accelerator="cpu"
    )

    trainer.fit(demos.BoringModel())

    steps = [body["step"] for kind, body in job.told() if kind == "progress"]
    assert steps == [1, 2, 3]


def test_s004_18_histograms_pictures_and_sounds_of_tensorboard_are_told(
    job: Job, tmp_path: Path
) -> None:
    from lineshaft.integrations.tensorboard import SummaryWriter  # noqa: PLC0415 - as the others

    with SummaryWriter() as writer:
        writer.add_histogram("weights", [1.0, 2.0, 4.0], 3, bins=2)
        writer.add_image("samples/a", np.zeros((3, 3, 3)), 4, dataformats="HWC")
        writer.add_images("batch", np.zeros((2, 1, 4, 5)), 5)
        writer.add_audio("voice", np.zeros((1, 10)), 6, sample_rate=8000)
        writer.add_image("broken", object(), 7)
        writer.add_histogram("broken", ["x"], 7)

    (_, histogram), *files, (_, no_image), (_, no_histogram) = job.told()
    assert histogram == {
        "metrics": {},
        "step": 3,
        "histogram": {"tag": "weights", "step": 3, "edges": [1.0, 2.5, 4.0], "counts": [2, 1]},
    }
    assert [(kind, body["name"], body["tag"], body["step"]) for kind, body in files] == [
        ("artifact", "media/samples_a-00000004.png", "samples/a", 4),
        ("artifact", "media/batch_0-00000005.png", "batch/0", 5),
        ("artifact", "media/batch_1-00000005.png", "batch/1", 5),
        ("artifact", "media/voice-00000006.wav", "voice", 6),
    ]
    kept = [Path(str(body["kept"])) for _, body in files]
    assert all(path.is_relative_to(tmp_path / "kept") for path in kept)
    assert [path.read_bytes()[:4] for path in kept] == [b"\x89PNG"] * 3 + [b"RIFF"]
    assert str(no_image["text"]).startswith("broken is left out: object is no image")
    assert str(no_histogram["text"]).startswith("histogram broken is left out: ")
