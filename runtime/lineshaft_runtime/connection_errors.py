"""What can go wrong before a connection is open."""

import ssl

from lineshaft_protocol.errors import LineshaftError

EXPIRED = 10
"""OpenSSL's X509_V_ERR_CERT_HAS_EXPIRED."""


class CannotConnectError(LineshaftError):
    """Nobody answered at the address, or not in the way of a coordinator."""

    def __init__(self, url: str, cause: str) -> None:
        super().__init__(
            f"cannot connect to {url}: {cause}. Check that the coordinator runs and that"
            " host and port are right (it prints its URL when it starts)."
        )
        self.url, self.cause = url, cause


class ConnectTimeoutError(LineshaftError):
    """The other end did not complete the opening of the connection in time."""

    def __init__(self, url: str, timeout_s: float) -> None:
        super().__init__(
            f"no connection to {url} within {timeout_s:g} s. A firewall may drop the packets,"
            " or the coordinator is overloaded; try again, or allow more time."
        )
        self.url, self.timeout_s = url, timeout_s


class CertificateExpiredError(LineshaftError):
    """Who answers shows a certificate whose time is over; nothing secret was sent."""

    def __init__(self, url: str) -> None:
        super().__init__(
            f"the TLS certificate of {url} has expired: the coordinator needs a new one, and a"
            " restart with it ('Certificates' in docs/operations.md says how). If it has one, the"
            " clock of this machine is wrong."
        )
        self.url = url


class RefusedError(LineshaftError):
    """The server answered, but with an HTTP status instead of a connection."""

    def __init__(self, url: str, status: int, text: str) -> None:
        said = f": {text.strip()}" if text.strip() else ""
        super().__init__(f"{url} refused the connection with HTTP {status}{said}.{_advice(status)}")
        self.url, self.status, self.text = url, status, text


class AddressInUseError(LineshaftError):
    """Another process already listens where a server was to listen."""

    def __init__(self, address: str) -> None:
        super().__init__(
            f"{address} is in use by another process. Stop that process (`ss -ltnp` shows it),"
            " or choose another port; port 0 takes any free one."
        )
        self.address = address


def problem_of(error: OSError, url: str) -> LineshaftError:
    """Return what to tell of an error of the system, which names nobody: with whom it was.

    Args:
        error: Raised while a connection was opened.
        url: Who was dialled, without secrets.
    """
    match error:
        case ConnectionRefusedError():
            return CannotConnectError(url, "nobody listens there")
        case TimeoutError():
            return CannotConnectError(url, "the host does not answer")
        case ssl.SSLCertVerificationError(verify_code=code) if code == EXPIRED:
            return CertificateExpiredError(url)
        case ssl.SSLError():
            return CannotConnectError(url, f"TLS failed ({error})")
        case _:
            return CannotConnectError(url, error.strerror or str(error))


def _advice(status: int) -> str:
    match status:
        case 401:
            return " Log in, or pass the token that the coordinator prints when it starts."
        case 403:
            return " The token is known, but it does not allow this."
        case 404:
            return " Check the path of the URL, and that this is a coordinator."
        case 429 | 503:
            return " The server has all the connections it allows; try again later."
        case _:
            return ""
