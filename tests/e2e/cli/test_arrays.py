"""Arrays and retries on the command line."""

from pathlib import Path

from tests.e2e.cli.shell import Shell
from tests.e2e.farm import Farm

SCRIPT = """
import os

def main(rate, gate, item=0):
    assert rate < 1 or os.path.exists(gate), "the gate is shut"
    return rate
"""


def test_an_array_is_run_summed_up_and_only_what_failed_is_done_again(shell: Shell) -> None:
    gate = shell.folder / "gate"
    shell.write("train.py", SCRIPT)
    shell.write("rates.json", '[{"rate": 0.5}, {"rate": 2.0}]')
    with_gate = ("--param", f"gate={gate}")

    ran = shell.run("run", "train.py:main", "--array", "rates.json", "--at-most", "1", *with_gate)
    array_id = ran.out.splitlines()[-1].split()[1].rstrip(",")
    gate.touch()
    again = shell.run("retry", "--failed", "--array", array_id)
    waited = shell.run("wait", "--array", array_id)
    nothing = shell.run("retry", "--failed", "--array", array_id)
    story = shell.run("story", f"{array_id}.1")

    assert ran.code == 1
    assert ran.out.splitlines()[-1].endswith("2 items: 1 succeeded, 1 failed; at most 1 at a time")
    assert again.out == f"job {array_id}.1 is done again as {array_id}.1.r1\n"
    assert (waited.code, waited.out.splitlines()[-1].split(": ")[1][:11]) == (0, "2 succeeded")
    assert (nothing.code, nothing.out) == (0, "")
    assert story.out.splitlines()[-1].endswith(f"done again as {array_id}.1.r1")
    assert shell.run("jobs", "--array", array_id, "--json").document["counts"] == {"succeeded": 2}


def opens(gate: str) -> str:
    return Path(gate).read_text()


def test_jobs_that_come_after_one_another_are_done_again_in_one_command(
    pair: Farm, shell: Shell
) -> None:
    gate = shell.folder / "gate"
    with pair.client() as client:
        firsts = [client.job(client.submit(opens, str(gate)).id) for _ in range(10)]
        seconds = [client.submit(opens, str(gate), after=[each]) for each in firsts]
        assert all(each.exception(60) is not None for each in seconds)
        again = [each.retry() for each in firsts[:5]] + firsts[5:]
        assert all(each.exception(60) is not None for each in again)
        gate.write_text("open")

        done = shell.run("retry", *(each.id for each in (*again, *seconds)), "--json")
        results = [client.job(each["job_id"]).result(60) for each in done.document]

    assert done.code == 0, done.err
    assert results == ["open"] * 20


def test_an_array_is_submitted_and_cancelled_as_a_whole(shell: Shell) -> None:
    shell.write("slow.py", "import time\ndef main(item):\n    time.sleep(600)\n")

    submitted = shell.run("submit", "slow.py:main", "--array", "3", "--at-most", "1")
    cancelled = shell.run("cancel", "--array", submitted.out.strip())
    waited = shell.run("wait", "--array", submitted.out.strip(), "--json")

    assert submitted.code == 0
    assert cancelled.out == f"array {submitted.out.strip()}: 3 cancelled\n"
    assert (waited.code, waited.document["counts"]) == (5, {"cancelled": 3})


def test_wrong_use_of_arrays_and_retries_names_the_way_out(shell: Shell) -> None:
    shell.write("train.py", SCRIPT)
    shell.write("bad.json", '{"rate": 1}')

    told = {
        words: shell.run(*words.split())
        for words in (
            "retry",
            "retry JOB --since 2h",
            "retry --failed --since yesterday",
            "cancel",
            "wait --array nobody",
            "run train.py:main --array bad.json",
            "run train.py:main --array none.json",
            "run train.py:main --at-most 2",
        )
    }

    assert {words: done.code for words, done in told.items()} == {
        words: 4 if "nobody" in words else 2 for words in told
    }
    assert "no array nobody is known" in told["wait --array nobody"].err
    assert "must be a list of objects" in told["run train.py:main --array bad.json"].err
    assert "write it as 30m, 2h, 1d" in told["retry --failed --since yesterday"].err
