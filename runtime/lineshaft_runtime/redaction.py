"""Keeps the values of a job's secrets out of what the job says.

Also a program: ``python -I -S redaction.py SOURCE TARGET [SOURCE TARGET…]`` copies from descriptors
to descriptors until all sources have ended, with the values replaced. So it imports the standard
library only, and little of it. Values are known by the names of their variables, which
`ENVIRONMENT_VARIABLE` lists.

Theory. A value is replaced wherever it stands exactly, and in the encodings that programs print by
themselves: base64, hexadecimal digits, percent signs, JSON. What a job does to a value on purpose
is its own affair. A value may come in two pieces: the end of what has arrived is held back for as
long as it may be the start of a value.
"""

import binascii
import os
import select
import sys
from _json import encode_basestring, encode_basestring_ascii  # As in `spool`.

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ENVIRONMENT_VARIABLE = "LINESHAFT_SECRETS"
"""Names of the variables whose values are secret, with commas."""
PATH_VARIABLE = "LINESHAFT_REDACTION"
"""Where this file is, for whoever cannot import it."""
MARK = b"***"
CHARACTERS_MIN = 6
"""Shorter values could not be told from other text."""
LINE_CHARACTERS_MIN = 16
"""Lines of a value, as of a key, are secret by themselves from this length on."""
_READ_BYTES = 64 * 1024
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


class Redactor:
    """Replaces secrets in whole texts and in streams.

    Args:
        values: The secrets; those shorter than `CHARACTERS_MIN` are left as they are.
    """

    def __init__(self, values: "Iterable[str]") -> None:
        forms: set[bytes] = set()
        for value in values:
            lines = [line.strip() for line in value.splitlines()]
            forms.update(*map(_forms, [line for line in lines if len(line) >= LINE_CHARACTERS_MIN]))
            if len(value) >= CHARACTERS_MIN:
                forms |= _forms(value) | _forms(value.strip())
        # The longest first: one may be a part of another.
        self._forms = sorted((each for each in forms if each), key=len, reverse=True)

    @classmethod
    def of(cls, environ: "Mapping[str, str]") -> "Redactor | None":
        """Make one for the secrets of an environment; None if it has none."""
        names = environ.get(ENVIRONMENT_VARIABLE)
        if not names:
            return None
        return cls(environ[name] for name in names.split(",") if name in environ)

    def clean(self, data: bytes) -> bytes:
        """Return the data without secrets."""
        for form in self._forms:
            if form in data:
                data = data.replace(form, MARK)
        return data

    def clean_text(self, text: str) -> str:
        """Return the text without secrets."""
        return self.clean(text.encode(errors="surrogatepass")).decode(errors="surrogatepass")

    def has_secret(self, data: bytes) -> bool:
        """Say whether a secret is in the data."""
        return any(form in data for form in self._forms)

    def split(self, data: bytes) -> tuple[bytes, bytes]:
        """Return what may be passed on, cleaned, and the end that may be the start of a secret."""
        data = self.clean(data)
        hold = len(data)
        for form in self._forms:
            place = data.find(form[:1], max(0, len(data) - len(form) + 1), hold)
            while place >= 0:
                if form.startswith(data[place:]):
                    hold = place
                    break
                place = data.find(form[:1], place + 1, hold)
        return data[:hold], data[hold:]


def _forms(value: str) -> set[bytes]:
    plain = value.encode(errors="surrogateescape")
    standard = binascii.b2a_base64(plain, newline=False).rstrip(b"=")
    quoted = b"".join(bytes((byte,)) if byte in _UNRESERVED else b"%%%02X" % byte for byte in plain)
    return {
        plain,
        standard,
        standard.replace(b"+", b"-").replace(b"/", b"_"),
        plain.hex().encode(),
        plain.hex().upper().encode(),
        quoted,
        encode_basestring(value)[1:-1].encode(errors="surrogateescape"),
        encode_basestring_ascii(value)[1:-1].encode(),
    }


def copy(pairs: "Iterable[tuple[int, int]]", redactor: Redactor) -> None:
    """Copy from descriptors to descriptors until all sources have ended."""
    held = {source: (target, b"") for source, target in pairs}
    while held:
        for source in select.select(list(held), [], [])[0]:
            target, rest = held[source]
            data = os.read(source, _READ_BYTES)
            if data:
                ready, rest = redactor.split(rest + data)
                held[source] = (target, rest)
            else:
                ready = redactor.clean(rest)
                del held[source]
            _write(target, ready)


def _write(target: int, data: bytes) -> None:
    while data:
        try:
            data = data[os.write(target, data) :]
        except OSError:  # A full disk: output is lost, the job goes on.
            return


def main(arguments: list[str]) -> int:
    """Copy between the descriptors that are named."""
    numbers = [int(each) for each in arguments]
    redactor = Redactor.of(os.environ)
    copy(zip(numbers[::2], numbers[1::2], strict=True), redactor or Redactor(()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
