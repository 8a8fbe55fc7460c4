"""What a newcomer passes by mistake is told in words, at once, and ends nothing else."""

from collections.abc import Callable

import pytest
from tests.integration.client.conftest import Shop

import lineshaft
from lineshaft import Client
from lineshaft.errors import BadNameError, InvalidJobError
from lineshaft.graph_errors import NoGraphError

WAIT_S = 30.0


def area(width: int, height: int = 1) -> int:
    return width * height


def test_a_client_with_options_works_though_nobody_keeps_the_one_it_was_made_of(
    shop: Shop,
) -> None:
    derived = Client(shop.url, token=shop.token).options(retries=1)

    assert derived.options(priority=1).submit(area, 2).result(WAIT_S) == 2
    assert list(derived.map(area, [1, 2])) == [1, 2]
    derived.close()


@pytest.mark.parametrize("job_id", ["../../x", "two words", "", "-x", 5])
def test_what_can_be_no_id_is_told_and_does_not_end_the_client(client: Client, job_id: str) -> None:
    future = client.submit(area, 3)

    with pytest.raises(BadNameError, match="can be no name of a job"):
        client.job(job_id)
    with pytest.raises(BadNameError, match="can be no name of a job"):
        client.why(job_id)
    with pytest.raises(BadNameError, match="can be no name of an array"):
        client.find_array(job_id)

    assert future.result(WAIT_S) == 3


def test_a_client_cannot_have_a_name_that_is_none(shop: Shop) -> None:
    with pytest.raises(BadNameError, match="'a b' can be no name of a client"):
        Client(shop.url, token=shop.token, client_id="a b")


@pytest.mark.parametrize(
    ("status", "limit", "said"),
    [("bogus", 1, "no status 'bogus'; there are: live, "), (None, 0, "from 1 to 1000, not 0")],
)
def test_jobs_are_not_listed_by_what_does_not_exist(
    client: Client, status: str | None, limit: int, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        client.jobs(status=status, limit=limit)


FILES = {"job.py": b"def main(n=1):\n    return n\n"}


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda client: client.submit(area(2)), "2 cannot be called"),
        (lambda client: client.submit(area, 1, resources="gpus=1"), "resources='gpus=1' are none"),
        (lambda client: client.run("job.py:main", files=FILES, params=[1]), r"not \[1\]"),
        (lambda client: client.run("job.py:main", files=FILES, params={1: 2}), "not {1: 2}"),
        (lambda client: client.array("job.py:main", [1], files=FILES), "not 1"),
        (lambda client: client.array("job.py:main", 10**12, files=FILES), "not 1000000000000"),
    ],
)
def test_a_job_that_cannot_be_is_refused_with_the_way_out(
    client: Client, call: Callable[[Client], object], said: str
) -> None:
    with pytest.raises(InvalidJobError, match=said):
        call(client)


@pytest.mark.parametrize("subject", ["model", None, area])
def test_what_is_no_pipeline_is_told(client: Client, subject: lineshaft.Pipeline) -> None:
    for call in (client.fit, client.forward, client.stream):
        with pytest.raises(NoGraphError, match="is no pipeline"):
            call(subject, [1])


def test_what_a_client_gave_out_works_though_nobody_keeps_the_client(shop: Shop) -> None:
    def connected() -> Client:
        return Client(shop.url, token=shop.token)

    job = connected().run("job.py:main", files=FILES, params={"n": 2})

    assert job.result(WAIT_S) == 2
    assert connected().job(job.id).result(WAIT_S) == 2
    assert [type(event).__name__ for event in connected().job(job.id).events()][-1] == "Finished"
    array = connected().array("job.py:main", [{"n": 3}, {"n": 4}], files=FILES)
    assert array.results(WAIT_S) == [3, 4]
    stream = connected().stream(lineshaft.Pipeline([("abs", abs)]), [1, -2])
    assert list(stream) == [1, 2]
