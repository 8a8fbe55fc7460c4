"""What an operator does with a data folder: check it, back it up, restore it."""

import argparse
import asyncio
import http.client
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import JsonValue

from lineshaft_coordinator.server.backups import back_up, check_data, restore, summary_view
from lineshaft_coordinator.store.errors import StoreLockedError
from lineshaft_protocol.errors import LineshaftError
from lineshaft_runtime.connection_errors import CannotConnectError
from lineshaft_runtime.locating import Whereabouts

EXIT_DAMAGED = 1
ANSWER_S = 6 * 3600.0
"""Longest wait for a backup."""


class BackupRefusedError(LineshaftError):
    """The running coordinator did not make the backup."""

    def __init__(self, url: str, text: str) -> None:
        super().__init__(f"the coordinator at {url} made no backup: {text}")
        self.url, self.text = url, text


class UnreachableError(LineshaftError):
    """The data folder is in use, but the coordinator that has it cannot be asked."""

    def __init__(self, locked: StoreLockedError, home: Path, detail: str) -> None:
        super().__init__(
            f"{locked.folder} is in use by process {locked.pid}, which could not be asked: "
            f"{detail}. Set LINESHAFT_HOME as it was set for it (now {home}), or stop it"
        )


def main(name: str, arguments: Sequence[str], home: Path) -> int:
    """Run one of the commands; returns its exit status.

    Raises:
        LineshaftError: It could not be done.
    """
    commands = {"check": _check, "backup": _back_up, "restore": _restore}
    return commands[name](list(arguments), home)


def _parser(name: str, description: str, home: Path) -> argparse.ArgumentParser:
    flags = argparse.ArgumentParser(
        allow_abbrev=False, prog=f"lineshaft-coordinator {name}", description=description
    )
    flags.add_argument(
        "--data", type=Path, default=home / "data", help="the data folder; default HOME/data"
    )
    flags.add_argument("--json", action="store_true", help="print one JSON object")
    return flags


def _check(arguments: list[str], home: Path) -> int:
    about = "Check journal and blobs of a coordinator that does not run, or of a backup."
    flags = _parser("check", about, home)
    flags.add_argument("--blobs", action="store_true", help="read all blobs, which takes its time")
    chosen = flags.parse_args(arguments)
    summary = check_data(chosen.data, reads_blobs=chosen.blobs)
    view = summary_view(summary)
    _say(view, is_json=chosen.json, text="\n".join([*summary.problems, _holds(view)]))
    return EXIT_DAMAGED if summary.problems else 0


def _back_up(arguments: list[str], home: Path) -> int:
    about = "Back up a data folder, whether its coordinator runs or not."
    flags = _parser("backup", about, home)
    flags.add_argument("target", type=Path, help="folder to make, with all that is in the backup")
    chosen = flags.parse_args(arguments)
    data, target = chosen.data.resolve(), chosen.target.resolve()
    try:
        view = summary_view(back_up(data, target))
    except StoreLockedError as locked:
        view = _ask(home, locked, {"data": str(data), "target": str(target)})
    problems = view["problems"]
    assert isinstance(problems, list), "a summary lists its problems"
    for problem in problems:
        sys.stderr.write(f"lineshaft-coordinator: backed up as it is: {problem}\n")
    _say(view, is_json=chosen.json, text=_holds(view))
    return 0


def _restore(arguments: list[str], home: Path) -> int:
    about = "Verify a backup and make a new data folder of it. Replaces nothing."
    flags = _parser("restore", about, home)
    flags.add_argument("source", type=Path, help="a folder that 'backup' made")
    chosen = flags.parse_args(arguments)
    view = summary_view(restore(chosen.source.resolve(), chosen.data.resolve()))
    view["folder"] = str(chosen.data.resolve())
    note = (
        "\nits epoch is raised, so that no worker takes it for the coordinator it left; jobs that "
        "ended after the backup was made run again"
    )
    _say(view, is_json=chosen.json, text=_holds(view) + note)
    return 0


def _ask(home: Path, locked: StoreLockedError, paths: Mapping[str, str]) -> dict[str, JsonValue]:
    """Have the coordinator that holds the data folder make the backup."""
    try:
        kept = json.loads((home / "coordinator.json").read_text())
        token = (home / "token").read_text().strip()
        where = Whereabouts(str(kept["url"]), token, home, kept.get("certificate_sha256"))
        tls = asyncio.run(where.trust())
        parts = urlsplit(where.url)
        host, port = parts.hostname or "", parts.port
        connection = (
            http.client.HTTPConnection(host, port, timeout=ANSWER_S)
            if tls is None
            else http.client.HTTPSConnection(host, port, timeout=ANSWER_S, context=tls)
        )
        headers = {"Authorization": f"Bearer {where.secret}", "Content-Type": "application/json"}
        connection.request("POST", "/api/v1/admin/backup", json.dumps(paths), headers)
        answer = connection.getresponse()
        body: dict[str, JsonValue] = json.loads(answer.read())
        connection.close()
    except (
        CannotConnectError,
        OSError,
        ValueError,
        KeyError,
        http.client.HTTPException,
    ) as error:
        raise UnreachableError(locked, home, str(error)) from error
    if answer.status != http.client.OK:
        raise BackupRefusedError(where.url, str(body.get("error", answer.reason)))
    return body


def _holds(view: Mapping[str, JsonValue]) -> str:
    return (
        f"{view['folder']}: {view['jobs']} jobs, {view['live_jobs']} of them live, "
        f"{view['records']} records, {view['events']} events, {view['blobs']} blobs of "
        f"{view['blob_bytes']} bytes{_away(view)}, epoch {view['epoch']}"
    )


def _away(view: Mapping[str, JsonValue]) -> str:
    if not view.get("objects"):
        return ""
    return f" and {view['objects']} of {view['object_bytes']} bytes in {view['blob_store']}"


def _say(view: Mapping[str, JsonValue], *, is_json: bool, text: str) -> None:
    sys.stdout.write((json.dumps(view) if is_json else text) + "\n")
