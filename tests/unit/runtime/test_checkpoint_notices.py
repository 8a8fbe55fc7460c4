"""The JSON, the channel and the settings of checkpoint notices, which existing consumers demand."""

import json
import re
from collections.abc import Mapping

import pytest

from lineshaft_runtime.checkpoint_notices import (
    CheckpointNotice,
    NoticeError,
    NoticeSettings,
    metadata_texts,
    without_password,
)

# As an existing publisher writes it.
SEEDS = (
    '{"model_path":"checkpoints/backward/latest_model.bin","model_name":"lstm_dqn_v1",'
    '"version":1000,"saved_at":"2026-04-16T23:15:00.123456789+00:00","training_step":1000,'
    '"metadata":{"loss":"0.002300"}}'
)
KEYS = ["model_path", "model_name", "version", "saved_at", "training_step", "metadata"]


def seeds(**changes: object) -> str:
    return json.dumps(json.loads(SEEDS) | changes)


def test_s002_01_the_channel_is_named_after_the_instance() -> None:
    settings = NoticeSettings(instance_id="prod")

    assert settings.channel == "fks:prod:model_checkpoints"
    assert NoticeSettings().channel == "fks:default:model_checkpoints"


def test_s002_02_all_six_keys_are_written_and_only_metadata_may_be_missing() -> None:
    assert list(json.loads(CheckpointNotice("m.bin", "lstm").to_json())) == KEYS

    for key in KEYS:
        fewer = {name: value for name, value in json.loads(SEEDS).items() if name != key}
        if key == "metadata":
            assert CheckpointNotice.from_json(json.dumps(fewer)).metadata == {}
        else:
            with pytest.raises(NoticeError, match=f"{key} is missing"):
                CheckpointNotice.from_json(json.dumps(fewer))
    assert CheckpointNotice.from_json(seeds(sha="unknown key")).version == 1000


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "[" * 100_000,
        seeds(version="7"),
        seeds(version=7.0),
        seeds(version=True),
        seeds(version=-1),
        seeds(training_step=2**64),
        seeds(model_path=None),
        seeds(metadata=None),
        seeds(metadata={"loss": 0.1}),
    ],
)
def test_s002_02_what_existing_readers_refuse_is_refused(text: str) -> None:
    with pytest.raises(NoticeError, match="no checkpoint notice"):
        CheckpointNotice.from_json(text)


def test_s002_03_metadata_goes_out_as_texts_and_numbers_are_unsigned() -> None:
    values = {"loss": 0.1, "epoch": 3, "best": True, "tags": ["a"], "note": "x", "none": None}
    notice = CheckpointNotice("m.bin", "lstm", version=2**64 - 1, metadata=metadata_texts(values))

    read = json.loads(notice.to_json())

    assert read["metadata"] == {
        "loss": "0.1",
        "epoch": "3",
        "best": "true",
        "tags": '["a"]',
        "note": "x",
    }
    for number in (-1, 2**64):
        with pytest.raises(NoticeError, match="version must be from 0"):
            CheckpointNotice("m.bin", "lstm", version=number)
    assert (read["version"], read["training_step"]) == (2**64 - 1, 0)
    with pytest.raises(NoticeError, match="version must be from 0"):
        CheckpointNotice("m.bin", "lstm", version=-1)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, NoticeSettings("redis://localhost:6379", "default", is_enabled=True)),
        (
            {"REDIS_URL": "redis://r:1", "FKS_INSTANCE_ID": "prod"},
            NoticeSettings("redis://r:1", "prod"),
        ),
        *(
            ({"ENABLE_CHECKPOINT_NOTIFY": word}, NoticeSettings(is_enabled=False))
            for word in ("false", "False", "0", "no", "off", " OFF ")
        ),
        *(
            ({"ENABLE_CHECKPOINT_NOTIFY": word}, NoticeSettings(is_enabled=True))
            for word in ("true", "1", "yes", "on", "anything", "")
        ),
    ],
)
def test_s002_04_the_variables_say_where_and_whether(
    environ: Mapping[str, str], expected: NoticeSettings
) -> None:
    assert NoticeSettings.from_environment(environ) == expected


def test_s002_11_what_an_existing_publisher_wrote_comes_back_byte_for_byte() -> None:
    assert CheckpointNotice.from_json(SEEDS).to_json() == SEEDS


def test_s002_11_what_we_send_holds_to_the_types_and_the_order_of_existing_readers() -> None:
    # A file name may hold bytes that are no text: a strict reader would refuse the whole notice.
    path = b"models/\xff/m.bin".decode(errors="surrogateescape")
    sent = CheckpointNotice(path, "Modell ä", 7, "2026-04-16T23:15:00+00:00", 40, {"k": "v"})

    text = sent.to_json()

    text.encode()
    assert not re.search(r"\\ud[89ab]", text)
    pairs: list[tuple[str, object]] = json.loads(text, object_pairs_hook=list)
    assert [key for key, _ in pairs] == KEYS
    assert [type(value) for _, value in pairs] == [str, str, int, str, int, list]


def test_a_password_is_no_part_of_what_logs_show() -> None:
    shown = without_password("rediss://user:pass@word@redis.lab:6380/2?password=secret")

    assert shown == "rediss://redis.lab:6380/2"
