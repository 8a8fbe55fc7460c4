"""A consumer hears of checkpoints, whatever Redis and its own handlers do."""

import json
import threading
from collections.abc import Mapping

import pytest
from tests.e2e.farm import until
from tests.integration.notices.conftest import RedisServer

from lineshaft.checkpoints import CheckpointNotice, NoticeSettings, ReloadSettings, Subscriber
from lineshaft.redis_link import connect


def tell(redis: RedisServer, *texts: str, kept: bool = False) -> None:
    """What any publisher does; `kept` for those that come late as well."""
    link = connect(redis.url)
    with link.pipeline() as both:
        for text in texts:
            if kept:
                name = CheckpointNotice.from_json(text).model_name
                both.hset(redis.settings().latest_key, name, text)
            both.publish(redis.settings().channel, text)
        both.execute()
    link.close()


def notice(version: int, model_name: str = "lstm") -> str:
    return CheckpointNotice(f"/models/{version}.bin", model_name, version).to_json()


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, ReloadSettings(NoticeSettings(), is_enabled=True, reconnect_s=5.0, retry_count_max=0)),
        (
            {
                "REDIS_URL": "redis://r:1",
                "ENABLE_MODEL_RELOAD": "off",
                "MODEL_RELOAD_RECONNECT_MS": "250",
                "MODEL_RELOAD_MAX_RETRIES": "7",
            },
            ReloadSettings(
                NoticeSettings("redis://r:1"),
                is_enabled=False,
                reconnect_s=0.25,
                retry_count_max=7,
            ),
        ),
        ({"MODEL_RELOAD_RECONNECT_MS": "soon"}, ReloadSettings()),
    ],
)
def test_s002_09_the_variables_say_how_to_listen(
    environ: Mapping[str, str], expected: ReloadSettings
) -> None:
    assert ReloadSettings.from_environment(environ) == expected


def test_s002_09_each_failure_is_counted_once_and_stops_nobody_else(
    redis: RedisServer, listening: ReloadSettings
) -> None:
    loaded: list[int] = []

    def load_odd(told: CheckpointNotice) -> None:
        if told.version % 2 == 0:
            raise RuntimeError("does not fit")

    with Subscriber(settings=listening) as subscriber:
        subscriber.add_handler(load_odd, name="odd")
        subscriber.add_handler(lambda told: loaded.append(told.version))
        assert subscriber.wait_until_listening(30)

        tell(redis, notice(1), notice(2), "no JSON", notice(3))

        until(lambda: loaded == [1, 2, 3], what="all handlers saw all notices")
        until(lambda: subscriber.statistics.successful_reloads == 2)
    seen = subscriber.statistics
    assert (seen.total_received, seen.successful_reloads, seen.failed_reloads) == (3, 2, 2)
    assert (seen.last_version, seen.last_model_path) == (3, "/models/3.bin")
    assert seen.last_success is not None
    assert (
        seen.last_error
        == "no checkpoint notice: it is not JSON (Expecting value: line 1 column 1 (char 0))"
    )


def test_s002_09_after_a_restart_of_redis_the_listener_is_back(
    redis: RedisServer, listening: ReloadSettings
) -> None:
    with Subscriber(settings=listening) as subscriber:
        assert subscriber.wait_until_listening(30)
        told = subscriber.notices()
        tell(redis, notice(1))
        assert next(told).version == 1

        redis.stop()
        redis.start()

        # Messages before it has subscribed again are nobody's; so we say it until it is heard.
        heard: list[int] = []
        reading = threading.Thread(target=lambda: heard.append(next(told).version), daemon=True)
        reading.start()
        until(lambda: tell(redis, notice(2)) or heard, within_s=6 + 24, what="it hears again")
        assert heard == [2]
        assert subscriber.is_running


def test_s002_09_a_redis_that_is_not_there_is_given_up_only_if_that_is_wanted(
    stopped_redis: RedisServer,
) -> None:
    settings = ReloadSettings(stopped_redis.settings(), reconnect_s=0.01, retry_count_max=3)
    with Subscriber(settings=settings) as giving_up:
        until(lambda: not giving_up.is_running, what="it gives up after three tries")
        assert list(giving_up.notices()) == []

    for_ever = ReloadSettings(stopped_redis.settings(), reconnect_s=0.01)
    with Subscriber(settings=for_ever) as patient:
        stopped_redis.start()
        assert patient.wait_until_listening(30)


def test_s002_09_a_slow_reader_loses_the_oldest_beyond_32(
    redis: RedisServer, listening: ReloadSettings
) -> None:
    with Subscriber(settings=listening) as subscriber:
        assert subscriber.wait_until_listening(30)
        slow = subscriber.notices()

        tell(redis, *(notice(version) for version in range(1, 101)))

        until(lambda: subscriber.statistics.total_received == 100)
        assert [next(slow).version for _ in range(32)] == list(range(69, 101))


def test_s002_09_switched_off_it_listens_to_nothing() -> None:
    settings = ReloadSettings(NoticeSettings("redis://127.0.0.1:1"), is_enabled=False)

    with Subscriber(settings=settings) as subscriber:
        assert not subscriber.is_running
        assert list(subscriber.notices()) == []


def test_s002_10_who_comes_late_gets_the_newest_once(
    redis: RedisServer, listening: ReloadSettings
) -> None:
    tell(redis, notice(1), notice(2), notice(3, "gru"), kept=True)

    with Subscriber(model_name="lstm", settings=listening) as subscriber:
        assert subscriber.wait_until_listening(30)
        until(lambda: subscriber.statistics.total_received == 1, what="the newest is there")
        told = subscriber.notices()
        tell(redis, notice(2), notice(4, "gru"), notice(3), kept=True)

        assert [next(told).version for _ in range(2)] == [2, 3]
        until(lambda: subscriber.statistics.total_received == 2)


def test_s002_08_an_older_version_that_comes_later_is_dropped_and_an_unknown_one_is_not(
    redis: RedisServer, listening: ReloadSettings
) -> None:
    with Subscriber(settings=listening) as subscriber:
        assert subscriber.wait_until_listening(30)
        told = subscriber.notices()

        tell(redis, notice(5), notice(4), notice(0), notice(6))

        assert [next(told).version for _ in range(3)] == [5, 0, 6]


def test_what_a_notice_says_beyond_what_we_know_is_ignored(
    redis: RedisServer, listening: ReloadSettings
) -> None:
    with Subscriber(settings=listening) as subscriber:
        assert subscriber.wait_until_listening(30)
        told = subscriber.notices()

        tell(redis, json.dumps(json.loads(notice(1)) | {"sha": "x"}))

        assert next(told).version == 1
