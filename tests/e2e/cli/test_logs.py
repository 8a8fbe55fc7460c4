"""`lineshaft logs`: which output, how a bar looks, and a flood of lines."""

import contextlib
import subprocess
from pathlib import Path

from tests.e2e.cli.shell import LINESHAFT, Shell
from tests.e2e.farm import Farm, select_pause

SPEAK = """
import sys
print("to out")
print("to err", file=sys.stderr)
print("to out again")
"""

BAR = """
import sys, time
sys.stderr.write("before\\n")
for step in range(201):
    sys.stderr.write(f"\\r{step / 2:3.0f}%|{'#' * (step // 20):10}| {step}/200")
    sys.stderr.flush()
    if step == 100:
        time.sleep(0.3)
sys.stderr.write("\\n")
"""

LINES = 1_000_000
FLOOD = f"""
import sys
for start in range(0, {LINES}, 1000):
    sys.stdout.write("".join(f"line {{i}} of the flood\\n" for i in range(start, start + 1000)))
"""
MEMORY_MAX_BYTES = 200 * 2**20


def test_output_is_chosen_by_stream_tail_and_attempt(shell: Shell) -> None:
    shell.write("speak.py", SPEAK)
    job_id = shell.run("submit", "speak.py").out.strip()
    shell.run("result", job_id)

    out = shell.run("logs", "--stdout", job_id)
    err = shell.run("logs", "--stderr", job_id)
    tail = shell.run("logs", "--stdout", "--tail", "1", job_id)
    followed = shell.run("logs", "-f", "--stdout", "-n", "1", job_id)
    none = shell.run("logs", "--attempt", "2", job_id)
    told = shell.run("logs", "--stdout", "--json", job_id)

    assert (out.out, out.err) == ("to out\nto out again\n", "")
    assert (err.out, err.err) == ("", "to err\n")
    assert (tail.out, followed.out) == ("to out again\n", "to out again\n")
    assert (none.code, none.out, none.err) == (0, "", "")
    texts = [event["body"]["text"] for event in told.documents]
    assert "".join(texts) == "to out\nto out again\n"


def test_a_bar_of_the_job_is_seen_in_its_last_state_on_a_terminal(shell: Shell) -> None:
    shell.write("bar.py", BAR)

    terminal = shell.on_terminal("run", "bar.py")
    assert terminal.wait() == 0

    lines = [line.strip() for line in terminal.text.replace("\r", "\n").splitlines()]
    # Printed once as a line of its own, whatever was drawn at the bottom meanwhile.
    assert lines.count("100%|##########| 200/200") == 1
    assert "before" in lines


def peak_bytes(pid: int) -> int:
    """The most memory of a process so far; what `wait4` says begins with its parent's."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def test_a_million_lines_are_followed_without_loss_in_flat_memory(
    pair: Farm, tmp_path: Path, shell: Shell
) -> None:
    shell.write("flood.py", FLOOD)
    job_id = shell.run("submit", "flood.py").out.strip()
    target = tmp_path / "followed.txt"

    with target.open("wb") as file:
        process = subprocess.Popen(
            [*LINESHAFT, "logs", "-f", job_id],
            env=pair.environ,
            stdout=file,
            stderr=subprocess.DEVNULL,
        )
        peak = 0
        while process.poll() is None:
            peak = max(peak, peak_bytes(process.pid))
            select_pause()

    assert process.returncode == 0
    with target.open() as lines:
        for number, line in enumerate(lines):
            assert line == f"line {number} of the flood\n"
    assert number == LINES - 1
    assert 0 < peak < MEMORY_MAX_BYTES
