"""Until when a certificate is valid, read from its bytes.

The standard library tells it only of certificates that it has verified, thus of none that has
expired; and a client does without the package that would.
"""

import ssl
from datetime import UTC, datetime

BEGIN, END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
_SEQUENCE, _VERSION, _UTC_TIME = 0x30, 0xA0, 0x17
_CENTURY_SPLIT = 50
"""Years of two digits below it are of this century (RFC 5280, 4.1.2.5.1)."""


def first_of_chain(pem: str) -> bytes:
    """Return the first certificate of a chain, the one that a server shows, in DER.

    Raises:
        ValueError: There is none.
    """
    _, _, rest = pem.partition(BEGIN)
    body, end, _ = rest.partition(END)
    if not end:
        raise ValueError("it holds no certificate")
    return ssl.PEM_cert_to_DER_cert(BEGIN + body + END)


def expires_at(der: bytes) -> float:
    """Return when a certificate expires, in seconds since 1970.

    Args:
        der: An X.509 certificate.

    Raises:
        ValueError: It is none.
    """
    try:
        whole = _inside(der, _SEQUENCE)
        fields = _inside(whole, _SEQUENCE)
        if fields[0] == _VERSION:
            _, fields = _split(fields)
        for _ in ("serial number", "algorithm", "issuer"):
            _, fields = _split(fields)
        validity = _inside(fields, _SEQUENCE)
        _, until = _split(validity)
        kind = until[0]
        moment, _ = _split(until)
        return _seconds(moment.decode("ascii"), is_brief=kind == _UTC_TIME)
    except (IndexError, ValueError) as error:
        raise ValueError(f"this is no certificate: {error}") from error


def _seconds(text: str, *, is_brief: bool) -> float:
    if is_brief:
        text = ("20" if int(text[:2]) < _CENTURY_SPLIT else "19") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _inside(data: bytes, tag: int) -> bytes:
    if data[0] != tag:
        raise ValueError(f"tag {data[0]:#x} where {tag:#x} should be")
    content, _ = _split(data)
    return content


def _split(data: bytes) -> tuple[bytes, bytes]:
    """The content of the first element, and what follows it."""
    size, begin = data[1], 2
    if size & 0x80:
        begin += size & 0x7F
        size = int.from_bytes(data[2:begin], "big")
    if begin + size > len(data):
        raise ValueError("it is cut off")
    return data[begin : begin + size], data[begin + size :]
