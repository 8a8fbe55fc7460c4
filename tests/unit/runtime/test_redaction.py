"""Secrets are taken out of output, however they are printed and wherever they are cut."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from lineshaft_runtime import redaction
from lineshaft_runtime.redaction import Redactor

VALUE = 'hf_S3cret/+"value"=ü'


@pytest.mark.parametrize(
    "printed",
    [
        VALUE,
        repr(VALUE).strip("'"),
        json.dumps(VALUE)[1:-1],
        json.dumps(VALUE, ensure_ascii=False)[1:-1],
        base64.b64encode(VALUE.encode()).decode(),
        base64.urlsafe_b64encode(VALUE.encode()).decode(),
        VALUE.encode().hex(),
        VALUE.encode().hex().upper(),
        quote(VALUE, safe=""),
    ],
)
def test_a_secret_is_found_in_the_encodings_that_programs_print(printed: str) -> None:
    cleaned = Redactor([VALUE]).clean_text(f"token: {printed}!")

    assert cleaned.rstrip("=!") == "token: ***"


def test_a_secret_in_pieces_is_found_wherever_it_is_cut() -> None:
    text = f"before {VALUE} between {VALUE}{VALUE} after hf_S3cr".encode()

    for size in range(1, 40):
        redactor, out, rest = Redactor([VALUE]), b"", b""
        for start in range(0, len(text), size):
            ready, rest = redactor.split(rest + text[start : start + size])
            out += ready

        assert out + rest == b"before *** between ****** after hf_S3cr"


def test_what_cannot_be_the_start_of_a_secret_is_passed_on_at_once() -> None:
    assert Redactor([VALUE]).split(b"epoch 1\n") == (b"epoch 1\n", b"")


def test_the_longest_of_secrets_that_hold_each_other_is_taken() -> None:
    assert Redactor(["secret", "secret-and-more"]).clean(b"secret-and-more secret") == b"*** ***"


def test_lines_of_a_key_are_secret_by_themselves_and_short_values_are_not() -> None:
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\nab==\n-----END KEY-----\n"
    redactor = Redactor([key, "abc"])

    assert redactor.clean(b"x MIIEvQIBADANBgkqhkiG9w0BAQEFAASC y") == b"x *** y"
    assert redactor.clean(b"abc ab==") == b"abc ab=="


def test_the_program_copies_streams_until_they_end(tmp_path: Path) -> None:
    source, end = os.pipe()
    program = [sys.executable, "-I", "-S", redaction.__file__, str(source), "1"]
    environ = {"LINESHAFT_SECRETS": "TOKEN,GONE", "TOKEN": "s3cr3t-value"}
    # A file, for a pipe that nobody reads would stop it.
    with (tmp_path / "out").open("wb") as out:
        copying = subprocess.Popen(program, env=environ, pass_fds=(source,), stdout=out)
    os.close(source)
    with os.fdopen(end, "wb") as file:
        file.write(b"a s3cr3t-value " * 100_000 + b"s3cr3t-va")

    assert copying.wait(60) == 0
    assert (tmp_path / "out").read_bytes() == b"a *** " * 100_000 + b"s3cr3t-va"
