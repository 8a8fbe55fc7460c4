"""The last JSON document in what a job printed."""

import json
import time

import pytest

from lineshaft_coordinator.gateway.printed import last_document


@pytest.mark.parametrize(
    ("text", "document"),
    [
        ("", {}),
        ("hi\nthere\n", {}),
        ('{"a": 1}\ntail\n', {"a": 1}),
        ('{"a": 1}\n42\n', 42),
        ('{"a": 1}\n{"b": 2}', {"b": 2}),
        ('  {"a": 1}  \n', {"a": 1}),
        ('{\n "a": [\n  1,\n  2\n ]\n}\n', {"a": [1, 2]}),
        ('loss 3\n{"a": 1} and more\n', {}),
        ('[1, 2]\r\nend\r\n', [1, 2]),
        ('{"never": \n"closed\n', {}),
        ('[\n1\n', 1),
        ('{"a": 1}\nNaN\n[Infinity]\n', {"a": 1}),
        ('null\n', None),
        ('"text"\n12 apples\n', "text"),
        ('{"a": {\n"b": 1}}\n}\n]\n', {"a": {"b": 1}}),
    ],
)  # fmt: skip
def test_the_last_document_on_lines_of_its_own_counts(text: str, document: object) -> None:
    assert last_document(text) == document


def test_only_the_end_of_a_long_text_is_looked_at() -> None:
    text = '{"a": 1}\n' + "word\n" * 200_000

    assert last_document(text) == {}


@pytest.mark.parametrize("line", ["[", '{"a": [', '["'])
def test_a_million_lines_that_begin_a_document_take_seconds_at_most(line: str) -> None:
    text = f"{line}\n" * 1_000_000 + json.dumps({"a": 1}) + "\n"
    started = time.process_time()

    found = last_document(text)

    assert found == {"a": 1}
    assert time.process_time() - started < 10
