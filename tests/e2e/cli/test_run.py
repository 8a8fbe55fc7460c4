"""`lineshaft run`, `submit`, `logs`, `result`, `cancel`: a job from its file to its result."""

import json

import pytest
from tests.e2e.cli.shell import Done, Shell

TRAIN = """
import sys
from lineshaft import run

def main(epochs=4, name="net"):
    for epoch in range(1, epochs + 1):
        run.progress(epoch, epochs, phase="train")
        run.log({"loss": 1 / epoch}, step=epoch)
        print(f"epoch {epoch}", flush=True)
    print("warning", file=sys.stderr)
    return {"name": name, "epochs": epochs, "params": dict(run.params)}
"""

ENDLESS = """
import time
from lineshaft import run
print("it runs", flush=True)
while True:
    run.progress(1, 100, phase="wait")
    time.sleep(0.05)
"""


def test_a_function_runs_with_its_parameters_and_its_result_is_printed_last(shell: Shell) -> None:
    shell.write("train.py", TRAIN)

    done = shell.run("run", "train.py:main", "-p", "epochs=2", "-p", "name=deep")

    assert done.code == 0
    *output, result = done.out.splitlines()
    assert output == ["epoch 1", "epoch 2"]
    assert json.loads(result) == {
        "name": "deep",
        "epochs": 2,
        "params": {"epochs": 2, "name": "deep"},
    }
    assert "warning\n" in done.err
    assert "progress 2 of 2 (train)\n" in done.err


def test_a_script_gets_files_and_arguments(shell: Shell) -> None:
    shell.write("data/numbers.txt", "1 2 3")
    shell.write(
        "script.py",
        "import sys\nfrom pathlib import Path\n"
        "print(sys.argv[1:], Path('data/numbers.txt').read_text(), __name__)",
    )

    done = shell.run("run", "script.py", "--files", "data", "--", "--lr", "0.1")

    assert (done.code, done.out) == (0, "['--lr', '0.1'] 1 2 3 __main__\n")


def test_json_is_one_document_with_the_result(shell: Shell) -> None:
    shell.write("train.py", TRAIN)

    done = shell.run("run", "train.py:main", "--json", "--worker", "w2", "--name", "of mine")

    assert done.code == 0
    document = done.document
    assert (document["status"], document["worker_id"], document["attempt"]) == (
        "succeeded",
        "w2",
        1,
    )
    assert document["result"]["epochs"] == 4
    assert document["failure"] is None


def test_a_result_that_json_has_not_is_shown_as_python_does(shell: Shell) -> None:
    shell.write("set.py", "def main(): return {7}")

    done = shell.run("run", "set.py:main", "--json")

    assert (done.document["result"], done.document["result_text"]) == (None, "{7}")


def test_a_job_that_raises_fails_with_its_traceback_once(shell: Shell) -> None:
    shell.write("bad.py", "def main():\n    raise ValueError('no good')")

    done = shell.run("run", "bad.py:main")

    assert (done.code, done.out) == (1, "")
    assert done.err.count("ValueError: no good\n") == 1
    assert "ValueError: no good; 'lineshaft story " in done.err.splitlines()[-1]


def test_a_script_that_exits_fails_with_its_status(shell: Shell) -> None:
    shell.write("bad.py", "raise SystemExit(7)")

    done = shell.run("run", "bad.py", "--json")

    assert done.code == 1
    assert (done.document["failure"]["cause"], done.document["failure"]["exit_code"]) == ("exit", 7)


def test_an_entry_point_that_is_not_there_is_refused_before_anything_is_sent(
    shell: Shell,
) -> None:
    shell.write("bad.py", "def mian(): ...\n")

    done = shell.run("run", "bad.py:main")

    assert done.code == 2
    assert done.err == "lineshaft: entry point 'bad.py:main': the file has no 'main'; it has mian\n"


def test_an_entry_point_that_only_running_shows_to_be_missing_is_told_with_the_files(
    shell: Shell,
) -> None:
    shell.write("bad.py", "globals().update({})\n")

    done = shell.run("run", "bad.py:main")

    assert done.code == 1
    assert "'bad' has no function 'main'; the job has bad.py" in done.err
    assert "lineshaft_worker" not in done.err.splitlines()[-1]


def test_a_job_that_no_worker_could_run_is_refused_with_what_the_nearest_lacks(
    shell: Shell,
) -> None:
    shell.write("train.py", TRAIN)

    done = shell.run("run", "train.py:main", "--gpus", "3")

    assert done.code == 6
    assert "it has 0 such GPUs, the job asks for 3" in done.err


def test_a_submitted_job_is_followed_later(shell: Shell) -> None:
    shell.write("train.py", TRAIN)

    submitted = shell.run("submit", "train.py:main")
    job_id = submitted.out.strip()

    assert submitted.code == 0
    followed = shell.run("logs", "-f", job_id)
    assert followed.code == 0
    assert followed.out.startswith("epoch 1\nepoch 2\nepoch 3\nepoch 4\n")
    assert shell.run("logs", job_id).out == "epoch 1\nepoch 2\nepoch 3\nepoch 4\n"
    assert shell.run("result", job_id).out == followed.out.splitlines()[-1] + "\n"


def test_events_are_json_lines_in_order(shell: Shell) -> None:
    shell.write("train.py", TRAIN)
    job_id = shell.run("run", "train.py:main", "--json").document["job_id"]

    events = shell.run("logs", job_id, "--json").documents

    assert [each["seq"] for each in events] == [*range(1, len(events) + 1)]
    assert {each["kind"] for each in events} == {"progress", "metrics", "log"}


def test_cancel_waits_until_the_job_has_ended_and_knows_if_it_had_before(shell: Shell) -> None:
    job_id = start_endless(shell)

    first, second = shell.run("cancel", job_id, "--json"), shell.run("cancel", job_id)

    assert (first.code, first.document) == (
        0,
        [{"job_id": job_id, "status": "cancelled", "was_live": True}],
    )
    assert (second.code, second.out) == (0, f"job {job_id} had ended already: cancelled\n")
    assert ended_with(shell, job_id) == 5


def test_a_result_that_takes_too_long_is_not_waited_for(shell: Shell) -> None:
    job_id = start_endless(shell)

    done = shell.run("result", job_id, "--timeout", "0.2")

    assert (done.code, "it goes on" in done.err) == (1, True)
    assert shell.run("cancel", job_id).code == 0


def test_one_ctrl_c_leaves_the_job_alone(shell: Shell) -> None:
    shell.write("endless.py", ENDLESS)
    terminal = shell.on_terminal("run", "endless.py")
    terminal.wait_for("it runs")

    terminal.press_ctrl_c()
    terminal.wait_for("goes on; follow it again: lineshaft logs -f")

    assert terminal.wait() == 130
    (job,) = shell.run("jobs", "--status", "running", "--json").document
    assert shell.run("cancel", job["job_id"]).code == 0


@pytest.mark.parametrize("width", [80, 50])
def test_a_second_ctrl_c_cancels_the_job(shell: Shell, width: int) -> None:
    shell.write("endless.py", ENDLESS)
    terminal = shell.on_terminal("run", "endless.py", width=width)
    terminal.wait_for(r"1/100")

    terminal.press_ctrl_c()
    terminal.wait_for("to cancel it")
    terminal.press_ctrl_c()

    assert terminal.wait() == 5
    assert "was cancelled" in terminal.text
    assert shell.run("jobs", "--status", "running", "--json").document == []


def test_a_bar_on_a_terminal_moves_below_the_jobs_output(shell: Shell) -> None:
    shell.write("train.py", TRAIN)
    terminal = shell.on_terminal("run", "train.py:main", width=50)

    assert terminal.wait() == 0

    shown = [line.strip() for line in terminal.text.splitlines()]
    assert [line for line in shown if line.startswith("epoch")] == [
        f"epoch {epoch}" for epoch in range(1, 5)
    ]


def test_a_job_that_waits_is_told_why_while_it_is_followed(shell: Shell) -> None:
    shell.write("train.py", TRAIN)
    terminal = shell.on_terminal("run", "train.py:main", "--gpus", "1", "--queue-timeout", "60")

    terminal.wait_for("no connected worker could ever run it")
    terminal.press_ctrl_c()
    terminal.wait_for("to cancel it")
    terminal.press_ctrl_c()

    assert terminal.wait() == 5


def start_endless(shell: Shell) -> str:
    shell.write("endless.py", ENDLESS)
    submitted = shell.run("submit", "endless.py")
    assert submitted.code == 0, submitted.err
    return submitted.out.strip()


def ended_with(shell: Shell, job_id: str) -> int:
    done: Done = shell.run("result", job_id)
    return done.code
