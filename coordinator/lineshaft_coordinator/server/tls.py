"""A certificate of our own, for coordinators without one: tokens carry its hash, clients pin it."""

import hashlib
import shutil
import socket
import ssl
import subprocess
from pathlib import Path

from lineshaft_coordinator.store.errors import StoreNotWritableError
from lineshaft_protocol.errors import LineshaftError
from lineshaft_runtime.certificates import first_of_chain


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


class UnusableCertificateError(LineshaftError):
    """The files that were named are no certificate with its key."""

    def __init__(self, certificate: Path, key: Path | None, detail: str) -> None:
        super().__init__(
            f"{certificate} and {key} are no certificate chain with its key in PEM: {detail}"
        )
        self.certificate, self.key = certificate, key


def self_signed(data: Path) -> tuple[Path, Path]:
    """The certificate and key in the data folder; made on first use, valid for ten years.

    Raises:
        NoCertificateToolError: openssl is not installed.
        CertificateError: openssl failed.
        StoreNotWritableError: The data folder cannot be written.
    """
    folder = data / "tls"
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    if certificate.exists() and key.exists():
        return certificate, key
    openssl = shutil.which("openssl")
    if openssl is None:
        raise NoCertificateToolError
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        key.touch(mode=0o600)
    except OSError as error:
        raise StoreNotWritableError(folder, error.strerror or str(error)) from error
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


def server_context(certificate: Path, key: Path | None) -> ssl.SSLContext:
    """TLS as the coordinator speaks it.

    Raises:
        UnusableCertificateError: The files are no certificate with its key, or cannot be read.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except OSError as error:  # an SSLError is one
        raise UnusableCertificateError(certificate, key, str(error)) from error
    return context


def fingerprint(certificate: Path) -> str:
    """SHA-256 of the first certificate of a chain, in hexadecimal: the one that is shown.

    Raises:
        UnusableCertificateError: There is none in the file.
    """
    try:
        shown = first_of_chain(certificate.read_text())
    except ValueError as error:
        raise UnusableCertificateError(certificate, None, str(error)) from error
    return hashlib.sha256(shown).hexdigest()
