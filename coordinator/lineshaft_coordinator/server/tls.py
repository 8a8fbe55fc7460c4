"""A certificate of our own, for coordinators without one: tokens carry its hash, clients pin it."""

import shutil
import socket
import subprocess
from pathlib import Path

from lineshaft_protocol.errors import LineshaftError


class NoCertificateToolError(LineshaftError):
    """There is no program to make a certificate with."""

    def __init__(self) -> None:
        super().__init__(
            "--tls-self-signed needs the openssl program, which is not here; install it, or give "
            "--tls-cert and --tls-key"
        )


class CertificateError(LineshaftError):
    """The certificate could not be made."""

    def __init__(self, detail: str) -> None:
        super().__init__(f"openssl could not make a certificate: {detail}")


def self_signed(data: Path) -> tuple[Path, Path]:
    """The certificate and key in the data folder; made on first use, valid for ten years.

    Raises:
        NoCertificateToolError: openssl is not installed.
        CertificateError: openssl failed.
    """
    folder = data / "tls"
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    if certificate.exists() and key.exists():
        return certificate, key
    openssl = shutil.which("openssl")
    if openssl is None:
        raise NoCertificateToolError
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    key.touch(mode=0o600)
    name = socket.gethostname()
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "3650", "-subj", "/CN=lineshaft"]
    command += ["-addext", f"subjectAltName=DNS:{name},DNS:localhost,IP:127.0.0.1"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if made.returncode != 0:
        certificate.unlink(missing_ok=True)
        raise CertificateError(made.stderr.strip()[-300:])
    return certificate, key
