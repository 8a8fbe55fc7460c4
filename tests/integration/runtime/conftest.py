"""Real sockets on the loopback interface, with and without TLS."""

import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from tests.integration.runtime.recording import Accept, Serve

from lineshaft_runtime.connection import Limits
from lineshaft_runtime.serving import Address, AsgiApp, Server, ServerLimits


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start a server on a free port; it is stopped, and must be empty, at the end."""
    servers: list[Server] = []

    async def start(
        accept: Accept,
        *,
        limits: ServerLimits | None = None,
        connection_limits: Limits | None = None,
        address: Address | None = None,
        app: AsgiApp | None = None,
    ) -> Server:
        server = Server(
            app or http_app(),
            accept,
            address=address or Address(),
            limits=limits,
            connection_limits=connection_limits,
        )
        await server.start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        await server.close(grace_s=1.0)
        assert server.connection_count == 0


def http_app() -> Starlette:
    async def hello(request: Request) -> PlainTextResponse:
        return PlainTextResponse(f"hello {request.method} {len(await request.body())}")

    return Starlette(routes=[Route("/hello", hello, methods=["GET", "POST"])])


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """Make a certificate for 127.0.0.1, signed by itself, and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl program to make a certificate with")
    made, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made_by = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        [openssl, *made_by, *subject, "-keyout", str(key), "-out", str(made)],
        check=True,
        capture_output=True,
    )
    return made, key


@pytest.fixture
def server_tls(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


@pytest.fixture
def client_tls(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate[0]))
