import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.integration.deploy.shop import DEPLOY

from lineshaft_coordinator.__main__ import parser as coordinator_flags
from lineshaft_worker.__main__ import parser as worker_flags

FOLDER = DEPLOY / "systemd"
PARSERS = {"lineshaft-coordinator": coordinator_flags, "lineshaft-worker": worker_flags}


def entries(unit: Path) -> dict[str, list[str]]:
    """What the unit sets, in order; a key may be there several times."""
    found: dict[str, list[str]] = {}
    for line in unit.read_text().splitlines():
        if line and line[0] not in "#[":
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def unit(name: str) -> Path:
    return FOLDER / f"{name}.service"


@pytest.mark.parametrize("name", PARSERS)
def test_systemd_accepts_the_unit(name: str, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("this machine has no systemd-analyze")
    # It looks whether the program is there: put one at a place of ours.
    program = tmp_path / name
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    copy = tmp_path / f"{name}.service"
    copy.write_text(unit(name).read_text().replace(f"/opt/lineshaft/bin/{name}", str(program)))

    run = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", copy],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "SYSTEMD_LOG_TARGET": "console"},
    )

    # Problems of other units of this machine are not ours.
    ours = [line for line in run.stderr.splitlines() if name in line]
    assert ours == []


@pytest.mark.parametrize("name", PARSERS)
def test_the_flags_of_the_unit_exist(name: str) -> None:
    command = entries(unit(name))["ExecStart"][0]
    program, *flags = shlex.split(command)
    from_file = next(flag for flag in flags if flag.startswith("$"))
    example = re.search(rf"{re.escape(from_file[1:])}=(.*)$", unit(name).read_text(), re.MULTILINE)
    assert example is not None

    flags.remove(from_file)
    chosen = PARSERS[name]().parse_args([*flags, *shlex.split(example.group(1))])

    assert Path(program).name == name
    assert chosen.log_style == "json"


def test_only_the_workers_daemon_is_killed_and_it_has_time_to_drain() -> None:
    worker = entries(unit("lineshaft-worker"))

    assert worker["KillMode"] == ["process"]
    assert worker["Delegate"] == ["yes"]
    assert worker["OOMPolicy"] == ["continue"]
    assert worker["TimeoutStopSec"] == ["10min"]
    # They would be emptied, or hide the devices, under jobs that go on.
    assert not {"PrivateTmp", "PrivateDevices"} & worker.keys()


@pytest.mark.parametrize("name", PARSERS)
def test_a_unit_claims_no_notification_that_the_daemon_does_not_send(name: str) -> None:
    found = entries(unit(name))

    assert found["Type"] == ["exec"]
    assert "WatchdogSec" not in found
    assert found["Restart"] == ["on-failure"]


@pytest.mark.parametrize("name", PARSERS)
def test_a_daemon_has_a_user_and_a_folder_of_its_own(name: str) -> None:
    found = entries(unit(name))
    users = (FOLDER / "lineshaft.sysusers.conf").read_text()
    folder = f"/var/lib/{found['StateDirectory'][0]}"

    assert re.search(rf"^u {found['User'][0]}\s", users, re.MULTILINE)
    assert found["StateDirectoryMode"] == ["0700"]
    assert found["ProtectSystem"] == ["strict"]
    assert f"LINESHAFT_HOME={folder}" in found["Environment"]
    assert f"{folder}/" in found["ExecStart"][0]
