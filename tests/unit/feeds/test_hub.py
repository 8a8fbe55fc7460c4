"""Who looks at a job hears all that follows its snapshot, once and in order."""

import random

import pytest
from tests.unit.feeds.stage import Guest, Theatre, ended, event, state, turns

from lineshaft_coordinator.feeds.hub import Hub
from lineshaft_coordinator.feeds.told import Latest, Told


async def test_a_viewer_gets_the_snapshot_and_then_what_is_new() -> None:
    theatre, guest = Theatre(), Guest()
    hub = Hub(theatre)
    theatre.say(event(1), event(2))

    hub.subscribe("j", guest)
    await turns()
    theatre.say(event(3))
    theatre.move("pausing")

    assert guest.begun == [((1, 2), (1, 2))]
    assert guest.news == [event(3), state("pausing")]


async def test_a_viewer_may_begin_where_it_left() -> None:
    theatre, guest = Theatre(), Guest()
    hub = Hub(theatre)
    theatre.say(*map(event, range(1, 12)))

    hub.subscribe("j", guest, since=(1, 4))
    await turns(60)
    theatre.say(event(12))

    assert guest.begun == [((1, 11), (1, 4))]
    assert guest.places == [(1, seq) for seq in range(5, 13)]


async def test_the_end_is_told_last_and_the_channel_is_gone() -> None:
    theatre, guest = Theatre(), Guest()
    hub = Hub(theatre)
    hub.subscribe("j", guest)
    await turns()

    theatre.end("failed")

    assert guest.news == [ended("failed")]
    assert hub.viewer_count("j") == 0
    assert theatre.ears == []


async def test_a_job_that_ended_is_told_with_its_end() -> None:
    theatre, guest, reader = Theatre(), Guest(), Guest()
    hub = Hub(theatre)
    theatre.say(event(1), event(2))
    theatre.end()

    hub.subscribe("j", guest)
    hub.subscribe("j", reader, since=(0, 0))
    await turns(60)

    assert guest.news == [ended()]
    assert reader.news == [event(1), event(2), ended()]


async def test_a_job_that_nobody_knows_is_said_to_be_unknown() -> None:
    theatre, guest = Theatre(), Guest()
    theatre.is_known = False
    hub = Hub(theatre)

    hub.subscribe("j", guest)
    await turns()

    assert guest.is_unknown
    assert hub.viewer_count("j") == 0


async def test_a_state_that_changes_while_history_is_read_is_told_behind_it() -> None:
    theatre, guest = Theatre(), Guest()
    hub = Hub(theatre)
    theatre.say(*map(event, range(1, 8)))
    hub.subscribe("j", guest, since=(0, 0))
    await turns(6)
    assert 0 < len(guest.news) < 7

    theatre.move("paused")
    await turns(60)

    assert guest.news == [*map(event, range(1, 8)), state("paused")]


async def test_what_comes_while_a_channel_opens_is_told_one_by_one() -> None:
    theatre, guest = Theatre(), Guest()
    theatre.pause = lambda: 5
    hub = Hub(theatre)
    theatre.say(event(1))
    hub.subscribe("j", guest)
    await turns(3)
    assert guest.begun == []

    theatre.say(event(2), event(3))
    await turns(60)

    assert guest.places == [(1, 2), (1, 3)]


async def test_without_viewers_nothing_is_watched() -> None:
    theatre, first, second = Theatre(), Guest(), Guest()
    hub = Hub(theatre)
    hub.publish("j", (event(1),))
    assert theatre.watch_count == 0
    hub.subscribe("j", first)
    hub.subscribe("j", second)
    await turns()

    hub.unsubscribe("j", first)
    theatre.say(event(1))
    hub.unsubscribe("j", second)

    assert first.news == []
    assert second.news == [event(1)]
    assert theatre.watch_count == 1
    assert theatre.ears == []


class _Broken(Guest):
    def hear(self, told: Told) -> None:
        raise ZeroDivisionError


async def test_a_viewer_with_a_bug_harms_nobody_else() -> None:
    theatre, broken, guest = Theatre(), _Broken(), Guest()
    hub = Hub(theatre)
    hub.subscribe("j", broken)
    hub.subscribe("j", guest)
    await turns()

    theatre.say(event(1), event(2))

    assert guest.news == [event(1), event(2)]
    assert broken.lost_reason == "an error inside the coordinator"
    assert hub.viewer_count("j") == 1


async def test_closing_lets_all_viewers_go() -> None:
    theatre, guest = Theatre(), Guest()
    hub = Hub(theatre)
    hub.subscribe("j", guest)
    await turns()

    hub.close("the coordinator stops")

    assert guest.lost_reason == "the coordinator stops"
    assert theatre.ears == []


@pytest.mark.parametrize("seed", range(200))
async def test_whenever_viewers_come_nothing_is_missed_or_told_twice(seed: int) -> None:
    dice = random.Random(seed)
    theatre = Theatre(page_events=dice.randint(1, 6))
    theatre.pause = lambda: dice.randint(0, 6)
    hub = Hub(theatre)
    guests: list[Guest] = []
    seq = 0
    for _ in range(dice.randint(5, 60)):
        match dice.randint(0, 4):
            case 0:
                guests.append(Guest())
                since = None if dice.random() < 0.5 else (1, dice.randint(0, seq + 1))
                hub.subscribe("j", guests[-1], since=since)
            case 1 if guests:
                gone = guests.pop(dice.randrange(len(guests)))
                hub.unsubscribe("j", gone)
                _check(gone, seq, is_there=False)
            case 2:
                theatre.move(dice.choice(("running", "pausing")))
            case _:
                new = [event(seq := seq + 1) for _ in range(dice.randint(1, 4))]
                theatre.keep(*new)
                # Between the commit and the news others may read the history.
                await turns(dice.randint(0, 4))
                theatre.tell(*new)
        await turns(dice.randint(0, 5))
    await turns(2000)

    for guest in guests:
        _check(guest, seq, is_there=True)
        assert guest.states[-1] == theatre.state.state


def _check(guest: Guest, seq: int, *, is_there: bool) -> None:
    if not guest.begun:
        assert not is_there
        return
    wanted = [(1, each) for each in range(guest.behind[1] + 1, seq + 1)]
    assert len(guest.begun) == 1
    assert guest.places == (wanted if is_there else wanted[: len(guest.places)])


def test_the_latest_of_each_metric_is_kept_whatever_the_order() -> None:
    first, second, third = event(1, loss=3.0, lr=0.1), event(2, loss=2.0), event(3, loss=1.0)
    forward, backward = Latest("j"), Latest("j")

    forward.fold_all((first, second, third))
    backward.fold_all((third, second, first))

    assert forward == backward or forward.metrics == backward.metrics
    assert {name: point.value for name, point in forward.metrics.items()} == {
        "loss": 1.0,
        "lr": 0.1,
    }
    assert forward.place == (1, 3)
