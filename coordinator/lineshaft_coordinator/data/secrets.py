"""Secrets of jobs, encrypted in one file of the data folder.

AES-256-GCM with a key of the folder's own, in a file for its owner alone. Who can read both files
knows the secrets; who has a copy of the one knows nothing. A backup of the data folder that
Lineshaft makes has neither.
"""

import base64
import json
import os
import secrets as dice
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, cast

from lineshaft_protocol.errors import LineshaftError
from lineshaft_runtime.durable import sync_path

KEY_FILE: Final = "secrets.key"
SECRETS_FILE: Final = "secrets.json"
KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
SECRETS_MAX: Final = 1000


class SecretsDamagedError(LineshaftError):
    """The file of secrets, or its key, cannot be used."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"{path}: {reason}. Bring the file back, or remove {SECRETS_FILE} and {KEY_FILE} and "
            "set all secrets again"
        )


class TooManySecretsError(LineshaftError):
    """No more secrets are kept."""

    def __init__(self) -> None:
        super().__init__(f"{SECRETS_MAX} secrets are kept already; remove one first")


class SecretBox:
    """Keeps secrets by name. May be used from several threads.

    Args:
        folder: The data folder; nothing is written before the first secret is set.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept: dict[str, dict[str, object]] | None = None
        self._changing = threading.Lock()

    def names(self) -> dict[str, float]:
        """Return the names, with when each was set (seconds since 1970).

        Raises:
            SecretsDamagedError: The file cannot be read.
        """
        return {name: cast("float", each["set_at"]) for name, each in sorted(self._read().items())}

    def missing(self, names: Mapping[str, str] | None) -> str | None:
        """Return the first of some secrets, by variable, that is not kept.

        Raises:
            SecretsDamagedError: The file cannot be read.
        """
        kept = self._read() if names else {}
        return next((name for name in (names or {}).values() if name not in kept), None)

    def values(self, names: Mapping[str, str]) -> dict[str, str]:
        """Return variables with their values; those whose secret is not kept are left out.

        Raises:
            SecretsDamagedError: A value cannot be decrypted.
        """
        kept = self._read()
        return {
            variable: self._decrypted(name, kept[name])
            for variable, name in names.items()
            if name in kept
        }

    def set(self, name: str, value: str) -> None:
        """Keep a secret, instead of an earlier one of this name; returns when it is on disk.

        Raises:
            SecretsDamagedError: The files cannot be used.
            TooManySecretsError: There are too many.
            OSError: The disk refused.
        """
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - 5 MiB

        with self._changing:
            kept = dict(self._read())
            if name not in kept and len(kept) >= SECRETS_MAX:
                raise TooManySecretsError
            nonce = dice.token_bytes(NONCE_BYTES)
            sealed = AESGCM(self._key(is_made=not kept)).encrypt(
                nonce, value.encode(errors="surrogateescape"), name.encode()
            )
            kept[name] = {
                "sealed": base64.b64encode(nonce + sealed).decode(),
                "set_at": time.time(),
            }
            self._write(kept)

    def remove(self, name: str) -> bool:
        """Forget a secret; says whether it was kept.

        Raises:
            SecretsDamagedError: The file cannot be read.
            OSError: The disk refused.
        """
        with self._changing:
            kept = dict(self._read())
            was_kept = kept.pop(name, None) is not None
            if was_kept:
                self._write(kept)
            return was_kept

    def _decrypted(self, name: str, kept: Mapping[str, object]) -> str:
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - as above
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - as above

        try:
            sealed = base64.b64decode(cast("str", kept["sealed"]), validate=True)
            plain = AESGCM(self._key(is_made=False)).decrypt(
                sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], name.encode()
            )
        except (InvalidTag, ValueError, KeyError) as error:
            path = self._folder / SECRETS_FILE
            raise SecretsDamagedError(path, f"{name} cannot be decrypted") from error
        return plain.decode(errors="surrogateescape")

    def _key(self, *, is_made: bool) -> bytes:
        path = self._folder / KEY_FILE
        try:
            key = path.read_bytes()
        except FileNotFoundError:
            if not is_made:
                raise SecretsDamagedError(path, "the key is gone") from None
            key = dice.token_bytes(KEY_BYTES)
            _write_private(path, key)
        except OSError as error:
            raise SecretsDamagedError(path, error.strerror or str(error)) from error
        if len(key) != KEY_BYTES:
            raise SecretsDamagedError(path, f"a key has {KEY_BYTES} bytes")
        return key

    def _read(self) -> dict[str, dict[str, object]]:
        if self._kept is None:
            path = self._folder / SECRETS_FILE
            try:
                found: object = json.loads(path.read_bytes())
            except FileNotFoundError:
                found = {}
            except ValueError as error:
                raise SecretsDamagedError(path, "it is no JSON") from error
            except OSError as error:
                raise SecretsDamagedError(path, error.strerror or str(error)) from error
            self._kept = _checked(path, found)
        return self._kept

    def _write(self, kept: dict[str, dict[str, object]]) -> None:
        _write_private(self._folder / SECRETS_FILE, json.dumps(kept).encode())
        self._kept = kept


def _checked(path: Path, found: object) -> dict[str, dict[str, object]]:
    if not isinstance(found, dict):
        raise SecretsDamagedError(path, "it is no object of JSON")
    kept: dict[str, dict[str, object]] = {}
    for name, each in cast("dict[str, object]", found).items():
        match each:
            case {"sealed": str(), "set_at": int() | float()}:
                kept[name] = cast("dict[str, object]", each)
            case _:
                raise SecretsDamagedError(path, f"{name} is no secret")
    return kept


def _write_private(path: Path, data: bytes) -> None:
    """Write a file that only its owner reads, whole or not at all, and see it on the disk."""
    draft = path.with_suffix(".part")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    draft.replace(path)
    sync_path(path.parent)
