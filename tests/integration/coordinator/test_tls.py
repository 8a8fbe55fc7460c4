"""A certificate of our own: programs on the same machine know it without being told."""

import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.e2e.farm import Farm, until

from lineshaft import Client
from lineshaft.errors import UnencryptedTokenError, WrongCertificateError
from lineshaft_coordinator.server.tls import fingerprint, self_signed, server_context
from lineshaft_runtime.connection_errors import CannotConnectError
from lineshaft_runtime.locating import Whereabouts

PINNED = f"ls1.{'ab' * 32}.s3cret"


def test_worker_and_client_without_arguments_find_a_self_signed_coordinator(
    site: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.start_coordinator("--tls-self-signed")
    site.start_worker("w1", "--slots", "1")
    monkeypatch.setenv("LINESHAFT_HOME", str(site.home))

    with Client() as client:
        until(lambda: Farm.here(client), what="the worker is there")
        answer = client.submit(pow, 3, 4).result(30)

    assert answer == 81


def test_a_certificate_that_an_authority_signed_is_known_as_well(
    site: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, authority_key = self_signed(site.folder / "authority")
    key, request, leaf = (site.folder / name for name in ("leaf.key", "leaf.csr", "leaf.pem"))
    commands = [
        f"req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=head.example.org"
        f" -keyout {key} -out {request}",
        f"x509 -req -in {request} -CA {authority} -CAkey {authority_key} -CAcreateserial"
        f" -days 2 -out {leaf}",
    ]
    for command in commands:
        subprocess.run(["openssl", *command.split()], check=True, capture_output=True)
    site.start_coordinator("--tls-cert", str(leaf), "--tls-key", str(key))
    monkeypatch.setenv("LINESHAFT_HOME", str(site.home))

    with Client() as client:
        assert client.workers() == []


def test_a_chain_of_a_stranger_is_known_by_its_first_certificate(tmp_path: Path) -> None:
    own, _ = self_signed(tmp_path / "own")
    other, _ = self_signed(tmp_path / "other")
    chain = tmp_path / "chain.pem"
    chain.write_text(f"a comment\n{own.read_text()}{other.read_text()}")

    assert fingerprint(chain) == fingerprint(own) != fingerprint(other)


@dataclass
class Impostor:
    """Shows a certificate of its own, and keeps what it is told."""

    port: int
    heard: bytearray = field(default_factory=bytearray)
    visits: int = 0


@contextmanager
def impostor(folder: Path) -> Generator[Impostor]:
    context = server_context(*self_signed(folder))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        made = Impostor(listening.getsockname()[1])
        thread = threading.Thread(target=_listen, args=(listening, context, made))
        thread.start()
        try:
            yield made
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def _listen(listening: socket.socket, context: ssl.SSLContext, made: Impostor) -> None:
    while True:
        try:
            plain, _ = listening.accept()
        except OSError:
            return
        plain.settimeout(10)
        try:
            with context.wrap_socket(plain, server_side=True) as secure:
                while data := secure.recv(4096):
                    made.heard += data
        except OSError:
            plain.close()
        made.visits += 1


@pytest.mark.parametrize("kept_by", ["coordinator.json", "login.json", "token"])
async def test_nothing_is_told_to_who_shows_another_certificate(
    tmp_path: Path, kept_by: str
) -> None:
    with impostor(tmp_path / "impostor") as other:
        url = f"wss://127.0.0.1:{other.port}"
        token = None
        (tmp_path / "token").write_text("s3cret")
        match kept_by:
            case "coordinator.json":
                keeps = {"url": url, "certificate_sha256": "ab" * 32}
                (tmp_path / kept_by).write_text(json.dumps(keeps))
            case "login.json":
                (tmp_path / kept_by).write_text(json.dumps({"url": url, "token": PINNED}))
            case _:
                token = PINNED
        where = Whereabouts.find(url, token, environ={"LINESHAFT_HOME": str(tmp_path)})

        with pytest.raises(WrongCertificateError, match=str(other.port)):
            await where.trust()

        assert where.secret == "s3cret"
        until(lambda: other.visits == 1, what="the connection is over")
        assert other.heard == b""


async def test_a_refused_connection_is_told_with_the_url_also_if_a_certificate_is_pinned(
    tmp_path: Path,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"wss://127.0.0.1:{listening.getsockname()[1]}"
    where = Whereabouts.find(url, PINNED, environ={"LINESHAFT_HOME": str(tmp_path)})

    with pytest.raises(CannotConnectError, match=f"{url}: nobody listens there"):
        await where.trust()


def test_a_worker_tells_nothing_to_who_shows_another_certificate(site: Farm) -> None:
    with impostor(site.folder / "impostor") as other:
        keeps = {"url": f"wss://127.0.0.1:{other.port}", "certificate_sha256": "ab" * 32}
        site.home.mkdir()
        (site.home / "coordinator.json").write_text(json.dumps(keeps))
        (site.home / "token").write_text("s3cret")

        worker = site.start_worker("w1")

        until(lambda: "somebody else may be answering" in worker.said(), what="it refuses")
        worker.kill()
        assert other.heard == b""


def test_a_worker_does_not_send_a_pinned_token_in_the_clear(tmp_path: Path) -> None:
    with pytest.raises(UnencryptedTokenError, match="wss://"):
        Whereabouts.find("ws://host:7433", PINNED, environ={"LINESHAFT_HOME": str(tmp_path)})


@pytest.mark.parametrize("url", ["wss://10.0.0.5:7433", "wss://127.0.0.1:7433"])
def test_the_local_token_goes_to_our_own_certificate_wherever_we_listen(
    url: str, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("s3cret")
    keeps = {"url": url, "certificate_sha256": "ab" * 32}
    (tmp_path / "coordinator.json").write_text(json.dumps(keeps))

    where = Whereabouts.find(None, None, environ={"LINESHAFT_HOME": str(tmp_path)})

    assert (where.url, where.secret, where.local_certificate) == (url, "s3cret", "ab" * 32)


@pytest.mark.parametrize("url", ["ws://127.example.org:7433", "wss://other:7433"])
def test_the_local_token_is_never_for_another_machine(url: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret")
    keeps = {"url": "wss://127.0.0.1:7433", "certificate_sha256": "ab" * 32}
    (tmp_path / "coordinator.json").write_text(json.dumps(keeps))

    with pytest.raises(Exception, match="no token for"):
        Whereabouts.find(url, None, environ={"LINESHAFT_HOME": str(tmp_path)})
