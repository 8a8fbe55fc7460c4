"""A certificate's last day is told before it comes, and what is wrong when it has."""

import asyncio
import json
import logging
import subprocess
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.e2e.cli.shell import LINESHAFT
from tests.e2e.farm import Farm, until

from lineshaft_coordinator.server.certificate_watch import DAY_S, expiry_of, warn_of
from lineshaft_runtime.certificates import expires_at, first_of_chain
from lineshaft_runtime.locating import Whereabouts

NOW = datetime.now(UTC).replace(microsecond=0)


def made(folder: Path, until_day: datetime) -> tuple[Path, Path]:
    """A certificate of its own that expires then, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "lineshaft")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    begins = min(NOW, until_day) - timedelta(days=400)
    whole = builder.not_valid_before(begins).not_valid_after(until_day).sign(key, hashes.SHA256())
    folder.mkdir(parents=True, exist_ok=True)
    certificate, secret = folder / "certificate.pem", folder / "key.pem"
    certificate.write_bytes(whole.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate, secret


@pytest.mark.parametrize(
    "until_day",
    [
        NOW,
        datetime(1998, 5, 4, 3, 2, 1, tzinfo=UTC),
        datetime(2049, 12, 31, tzinfo=UTC),
        datetime(2051, 2, 3, 4, 5, 6, tzinfo=UTC),
    ],
)
def test_the_moment_is_read_from_the_bytes(tmp_path: Path, until_day: datetime) -> None:
    certificate, _ = made(tmp_path, until_day)

    assert expiry_of(certificate) == until_day.timestamp()


def test_what_is_no_certificate_is_refused_wherever_it_is_cut(tmp_path: Path) -> None:
    whole = first_of_chain(made(tmp_path, NOW)[0].read_text())

    for size in range(0, len(whole) - 1, 7):
        with pytest.raises(ValueError, match="no certificate"):
            expires_at(whole[:size])


@pytest.mark.parametrize(
    ("days", "told"), [(31, []), (29, ["WARNING"]), (-1, ["ERROR"])], ids=["long", "soon", "over"]
)
def test_the_log_warns_a_month_before(
    days: int, told: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    warn_of(Path("certificate.pem"), NOW.timestamp() + days * DAY_S, NOW.timestamp())

    assert [each.levelname for each in caplog.records] == told


def doctor(site: Farm) -> dict[str, tuple[str, str]]:
    done = subprocess.run(
        [*LINESHAFT, "doctor", "--json"], env=site.environ, capture_output=True, check=False
    )
    checks = json.loads(done.stdout)["checks"]
    return {each["what"]: (each["verdict"], each["text"]) for each in checks}


def test_one_that_expires_soon_is_told_by_log_numbers_and_doctor(site: Farm) -> None:
    expires = NOW + timedelta(days=10)
    certificate, key = made(site.folder / "own", expires)
    flags = ("--tls-cert", str(certificate), "--tls-key", str(key))
    coordinator = site.start_coordinator(*flags, "--log-style", "json")
    where = Whereabouts.find(None, None, environ={"LINESHAFT_HOME": str(site.home)})

    until(lambda: "expires soon" in coordinator.said(), what="it warns")
    address = where.url.replace("wss:", "https:") + "/metrics"
    with urllib.request.urlopen(address, context=asyncio.run(where.trust())) as answer:
        numbers = answer.read().decode()
    found = doctor(site)

    assert f"\nlineshaft_tls_certificate_expires_seconds {expires.timestamp()!r}\n" in numbers
    assert found["certificate"] == ("note", f"valid until {expires.date().isoformat()}, 9 days")


def test_of_an_expired_one_workers_and_people_are_told_what_to_do(site: Farm) -> None:
    certificate, key = made(site.folder / "own", NOW - timedelta(days=1))
    site.start_coordinator("--tls-cert", str(certificate), "--tls-key", str(key))
    worker = site.start_worker("w1")

    until(lambda: "has expired: the coordinator needs a new one" in worker.said(), what="it says")
    found = doctor(site)

    assert found["certificate"][0] == "broken"
    assert "has expired: the coordinator needs a new one" in found["coordinator"][1]
