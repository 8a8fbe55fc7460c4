import io
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from lineshaft_runtime.logs import configure_logging, redact


@pytest.fixture(autouse=True)
def root_logger_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


logger = logging.getLogger("lineshaft_runtime.test")


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_one_json_object_with_the_extra_fields() -> None:
    stream = io.StringIO()
    configure_logging("info", stream=stream)

    logger.info("worker %s", "joined", extra={"worker_id": "w1", "devices": 2, "ids": ("a", "b")})

    (line,) = lines(stream)
    moment = datetime.fromisoformat(str(line.pop("ts")))
    assert moment.utcoffset() == UTC.utcoffset(None)
    assert abs((datetime.now(UTC) - moment).total_seconds()) < 60
    assert line == {
        "level": "info",
        "logger": "lineshaft_runtime.test",
        "msg": "worker joined",
        "worker_id": "w1",
        "devices": 2,
        "ids": ["a", "b"],
    }


def test_a_line_stays_one_line_whatever_the_message_holds() -> None:
    stream = io.StringIO()
    configure_logging("info", stream=stream)

    logger.info("one\ntwo", extra={"text": "a\nb", "thing": object})

    assert len(stream.getvalue().splitlines()) == 1
    assert lines(stream)[0]["msg"] == "one\ntwo"


def test_less_severe_lines_than_the_level_are_not_written() -> None:
    stream = io.StringIO()
    configure_logging("warning", stream=stream)

    logger.info("quiet")
    logger.warning("loud")

    assert [line["msg"] for line in lines(stream)] == ["loud"]


def test_an_exception_is_part_of_its_line() -> None:
    stream = io.StringIO()
    configure_logging("info", stream=stream)

    try:
        int("token=abc123")
    except ValueError:
        logger.exception("failed")

    (line,) = lines(stream)
    assert "ValueError: invalid literal" in str(line["error"])
    assert "abc123" not in str(line["error"])
    assert "Traceback" in str(line["error"])


def test_configuring_again_replaces_what_was_before() -> None:
    first, second = io.StringIO(), io.StringIO()
    configure_logging("info", stream=first)
    configure_logging("info", stream=second)

    logger.info("once")

    assert first.getvalue() == ""
    assert len(lines(second)) == 1


def test_a_terminal_gets_a_line_for_people() -> None:
    stream = Terminal()
    configure_logging("info", stream=stream)

    logger.warning("worker left", extra={"worker_id": "w1"})

    assert stream.getvalue().rstrip().endswith("warning worker left worker_id=w1 [runtime.test]")


@pytest.mark.parametrize("style", ["json", "human"])
def test_no_secret_is_written_in_any_style(style: str) -> None:
    stream = io.StringIO()
    configure_logging("info", "json" if style == "json" else "human", stream=stream)

    logger.info(
        "GET /feed?token=s3cret&x=1 with Authorization: Bearer s3cret",
        extra={
            "url": "ws://host/?token=s3cret",
            "token": "s3cret",
            "headers": {"Authorization": "s3cret", "x": ["Bearer s3cret"]},
        },
    )

    text = stream.getvalue()
    assert "s3cret" not in text
    assert "x=1" in text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("token=abc", "token=***"),
        ("?a=1&token=abc&b=2", "?a=1&token=***&b=2"),
        ("Authorization: Bearer abc.def-1", "Authorization: Bearer ***"),
        ("BEARER abc", "BEARER ***"),
        ("the bearer, of news", "the bearer, of news"),
        ("tokens=3", "tokens=3"),
    ],
)
def test_what_follows_a_token_or_bearer_is_hidden(text: str, shown: str) -> None:
    assert redact(text) == shown
