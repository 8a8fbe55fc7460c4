"""More failed jobs than one answer of the coordinator holds."""

from pathlib import Path

from tests.e2e.cli.shell import Shell
from tests.e2e.farm import farm

from lineshaft.cli.arrays import PAGE_JOBS

COUNT = PAGE_JOBS + 200


def fails_while(gate: str) -> None:
    assert not Path(gate).exists(), "the gate is shut"


def test_all_that_failed_is_done_again_however_much_it_is(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    with farm(tmp_path / "farm") as made, made.client() as client:
        made.start_worker("w1", "--slots", "1")
        made.until_ready(client)
        futures = [client.submit(fails_while, str(gate)) for _ in range(COUNT)]
        assert all(isinstance(each.exception(300), AssertionError) for each in futures)
        gate.unlink()
        shell = Shell(tmp_path, made.environ)

        again = shell.run("retry", "--failed", "--json", within_s=600)

        assert again.code == 0, again.err
        done = again.document
        assert {each["retry_of"] for each in done} == {each.id for each in futures}
        assert len({each["job_id"] for each in done}) == len(done) == COUNT
        assert client.job(done[-1]["job_id"]).result(300) is None
        shell.end()
