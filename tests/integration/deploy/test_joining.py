"""A machine joins as the documents say: an address, a token, nothing else."""

import json
import subprocess
from pathlib import Path

import pytest
from tests.integration.deploy.shop import PROGRAMS, Shop, until


def lineshaft(shop: Shop, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = shop.environment({"LINESHAFT_HOME": str(home)})
    return subprocess.run(
        [PROGRAMS / "lineshaft", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def token(shop: Shop, role: str) -> str:
    """What the operator gets on the head node."""
    made = lineshaft(
        shop, shop.home, "token", "create", "--role", role, "--data", str(shop.data), "--json"
    )
    assert made.returncode == 0, made.stderr
    return str(json.loads(made.stdout)["token"])


@pytest.fixture
def url(shop: Shop) -> str:
    """A coordinator that listens to the network, inside TLS."""
    plain = shop.start_coordinator(
        "--listen", "0.0.0.0:0", "--data", str(shop.data), "--tls-self-signed"
    )
    return plain.replace("ws://", "wss://")


def test_another_machine_joins_with_an_address_and_a_token(
    shop: Shop, url: str, tmp_path: Path
) -> None:
    file = tmp_path / "worker.token"
    file.write_text(token(shop, "worker") + "\n")
    there = tmp_path / "elsewhere"

    shop.start(
        ["lineshaft-worker", "--name", "gpu1", "--slots", "1", "--state", there / "state"],
        {"LINESHAFT_HOME": str(there), "LINESHAFT_URL": url, "LINESHAFT_TOKEN_FILE": str(file)},
    )

    laptop = tmp_path / "laptop"
    login = lineshaft(shop, laptop, "login", url, "--token", token(shop, "client"))
    assert login.returncode == 0, login.stderr
    assert until(lambda: "gpu1" in lineshaft(shop, laptop, "workers").stdout)
    kept = [path for path in laptop.rglob("*") if path.is_file()]
    assert {oct(path.stat().st_mode & 0o077) for path in kept} == {oct(0)}


def test_a_token_for_workers_opens_nothing_for_clients(
    shop: Shop, url: str, tmp_path: Path
) -> None:
    login = lineshaft(shop, tmp_path / "laptop", "login", url, "--token", token(shop, "worker"))

    assert login.returncode != 0
    assert "worker" in login.stderr
    assert not (tmp_path / "laptop" / "login.json").exists()


def test_without_tls_the_network_is_refused(shop: Shop) -> None:
    run = subprocess.run(
        [PROGRAMS / "lineshaft-coordinator", "--listen", "0.0.0.0:0", "--data", shop.data],
        env=shop.environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert run.returncode == 2
    assert "--tls-self-signed" in run.stderr
    assert not any(shop.home.iterdir())
