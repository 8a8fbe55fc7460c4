"""Whose page may cause a request."""

from pathlib import Path

import pytest

from lineshaft_coordinator.server import admission
from lineshaft_coordinator.server.admission import Gate, Tokens


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("127.0.0.1:7", None, None),
        ("127.0.0.1:7", "http://127.0.0.1:7", None),
        ("localhost:7", "http://127.0.0.1:7", 403),
        ("elsewhere.example", None, 403),
        ("127.0.0.1:7", "null", 403),
        ("[", None, 400),
        ("127.0.0.1:7", "http://[", 400),
        ("[::1", "http://[::1", 400),
    ],
)
def test_a_page_of_somebody_else_and_one_that_cannot_be_told_are_refused(
    tmp_path: Path, host: str, origin: str | None, status: int | None
) -> None:
    sessions = None  # Nobody gets so far.
    gate = Gate(Tokens(tmp_path, "local"), sessions, is_loopback=True)  # type: ignore[arg-type]

    refusal = gate.refuse_page(host, origin)

    assert (refusal.status if refusal is not None else None) == status


@pytest.mark.parametrize(
    ("host", "is_here"),
    [("localhost", True), ("127.3.2.1", True), ("::1", True), ("127.example.org", False)],
)
def test_only_addresses_of_this_machine_are_loopback(host: str, is_here: bool) -> None:
    assert admission.is_loopback(host) is is_here
