"""Parameters of a job as they are told: JSON, and never too much of it."""

import json
from typing import Any

import numpy as np

from lineshaft_protocol.jobs import PARAMS_CHARACTERS_MAX
from lineshaft_runtime.told_params import told_params


def told(params: dict[str, Any]) -> Any:
    text = told_params(params)
    assert text is not None
    assert len(text) <= PARAMS_CHARACTERS_MAX
    return json.loads(text)


def test_what_json_can_say_is_told_as_it_is() -> None:
    params = {"lr": 0.1, "steps": 3, "on": True, "no": None, "nested": {"betas": [0.9, 1]}}

    assert told(params) == params
    assert told_params({}) is None


def test_of_anything_else_its_text_is_told() -> None:
    class Mute:
        def __str__(self) -> str:
            raise RuntimeError("no")

    said = told({"rate": np.float32(0.5), "data": np.zeros(10_000), "mute": Mute(), 3: {1, 2}})  # type: ignore[dict-item]

    assert said["rate"] == 0.5
    assert said["data"].startswith("[0. 0. 0.")
    assert said["mute"] == "(Mute that does not tell itself: RuntimeError)"
    assert said["3"] == "{1, 2}"


def test_what_would_be_too_long_is_left_out_and_said_to_be() -> None:
    said = told({"text": "x" * PARAMS_CHARACTERS_MAX, "lr": 0.1})

    assert said == {"text": "(too long to be told)", "lr": 0.1}
    assert 100 < len(told({f"key-{n}": n for n in range(10_000)})) < 10_000


def test_what_contains_itself_comes_to_an_end() -> None:
    loop: list[object] = []
    loop.append(loop)

    assert told({"loop": loop})["loop"][0][0] is not None
