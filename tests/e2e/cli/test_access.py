"""Tokens, TLS and logins: what a second machine needs to join."""

import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.cli.shell import Shell
from tests.e2e.farm import Farm, until


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """A coordinator that listens with a certificate of its own."""
    made = Farm(tmp_path_factory.mktemp("head"))
    try:
        made.start_coordinator("--tls-self-signed")
        yield made
    finally:
        made.close()


def on_head(head: Farm) -> Shell:
    return Shell(head.folder, head.environ)


def elsewhere(tmp_path: Path) -> Shell:
    """Another machine: nothing is known there."""
    return Shell(tmp_path, Farm(tmp_path).environ)


def create(head: Farm, role: str) -> dict[str, str]:
    data = str(head.folder / "data")
    done = on_head(head).run(
        "token", "create", "--role", role, "--data", data, "--host", "127.0.0.1", "--json"
    )
    assert done.code == 0, done.err
    document: dict[str, str] = done.document
    return document


def test_the_join_line_makes_a_worker(head: Farm, tmp_path: Path) -> None:
    made = create(head, "worker")

    assert re.fullmatch(
        rf"lineshaft worker wss://127\.0\.0\.1:{head.port} --token ls1\.[0-9a-f]{{64}}\.\S+",
        made["join"],
    )
    there = Farm(tmp_path)
    try:
        there.start("box", "-m", *made["join"].split(), "--name", "box", "--slots", "1")
        shell = on_head(head)
        until(lambda: [each["worker_id"] for each in shell.run("workers", "--json").document])
    finally:
        there.close()


def test_a_login_is_kept_for_its_owner_alone_and_used_by_every_command(
    head: Farm, tmp_path: Path
) -> None:
    made = create(head, "client")
    shell = elsewhere(tmp_path)

    done = shell.run("login", f"127.0.0.1:{head.port}", "--token", made["token"], "--json")

    assert done.code == 0, done.err
    kept = Path(done.document["file"])
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert shell.run("jobs", "--json").document == []
    assert shell.run("config", "show", "--json").document["token"]["origin"] == str(kept)


def test_a_viewer_gets_the_address_of_the_page_and_no_commands(head: Farm, tmp_path: Path) -> None:
    made = create(head, "viewer")

    done = elsewhere(tmp_path).run("jobs", "--url", made["url"], "--token", made["token"])

    assert made["join"] == f"https://127.0.0.1:{head.port}/#token={made['token']}"
    assert (done.code, "for a viewer" in done.err, "--role client" in done.err) == (3, True, True)


def test_a_certificate_that_nobody_vouches_for_is_told_how_to_trust(
    head: Farm, tmp_path: Path
) -> None:
    done = elsewhere(tmp_path).run(
        "jobs", "--url", f"wss://127.0.0.1:{head.port}", "--token", "without-a-pin"
    )

    assert (done.code, done.err.count("\n")) == (3, 1)
    assert "'lineshaft token create --role client' on the head node" in done.err


def test_a_login_that_does_not_work_is_not_kept(head: Farm, tmp_path: Path) -> None:
    shell = elsewhere(tmp_path)

    done = shell.run("login", f"wss://127.0.0.1:{head.port}", "--token", "ls1." + "0" * 64 + ".x")

    assert (done.code, "certificate" in done.err) == (3, True)
    assert not (tmp_path / "home" / "login.json").exists()


def test_a_workers_token_opens_nothing_to_a_client(head: Farm, tmp_path: Path) -> None:
    made = create(head, "worker")

    done = elsewhere(tmp_path).run(
        "jobs", "--url", f"wss://127.0.0.1:{head.port}", "--token", made["token"]
    )

    assert (done.code, "this takes one for a client" in done.err) == (3, True)


def test_a_revoked_token_opens_nothing(head: Farm, tmp_path: Path) -> None:
    made, data = create(head, "client"), str(head.folder / "data")
    shell, place = on_head(head), ["--url", made["url"], "--token", made["token"]]
    assert elsewhere(tmp_path).run("jobs", *place).code == 0
    listed = shell.run("token", "list", "--data", data, "--json").document
    assert {"id": made["id"], "role": "client"} in listed

    assert shell.run("token", "revoke", made["id"], "--data", data).code == 0

    assert elsewhere(tmp_path).run("jobs", *place).code == 3
    again = shell.run("token", "revoke", made["id"], "--data", data)
    assert (again.code, made["id"] in again.err) == (4, True)


def test_without_tls_the_tunnel_is_told(empty_farm: Farm) -> None:
    shell = Shell(empty_farm.folder, empty_farm.environ)

    done = shell.run("token", "create", "--data", str(empty_farm.folder / "data"), "--host", "head")

    assert done.code == 0
    port = empty_farm.port
    assert f"ssh -N -L {port}:127.0.0.1:{port} head" in done.err
    assert done.out.startswith(f"lineshaft worker ws://127.0.0.1:{port} --token ")
