"""The coordinator daemon's command line: ``lineshaft-coordinator``."""

import argparse
import difflib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from lineshaft_coordinator.core.settings import CoreSettings
from lineshaft_coordinator.finetune.settings import TrainingSettings, training_settings
from lineshaft_coordinator.notices.settings import AnnouncerSettings
from lineshaft_coordinator.server.serve import serve
from lineshaft_coordinator.server.tls import self_signed
from lineshaft_coordinator.settings import (
    DEFAULT_PORT,
    CoordinatorSettings,
    parse_duration,
    read_settings_file,
)
from lineshaft_protocol.errors import LineshaftError
from lineshaft_runtime.logs import configure_logging
from lineshaft_runtime.loops import run
from lineshaft_runtime.sizes import parse_size
from lineshaft_runtime.version_shelf import DEFAULT_KEPT

EXIT_CANNOT_START = 2
COMMANDS = ("check", "backup", "restore")


def parser() -> argparse.ArgumentParser:
    """All flags."""
    flags = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="lineshaft-coordinator",
        description="Run a coordinator.",
        epilog="Commands on its data folder, each with a --help of its own: check, backup TARGET, "
        "restore SOURCE.",
    )
    flags.add_argument("--data", type=Path, help="folder of journal and blobs; default HOME/data")
    flags.add_argument(
        "--listen", default=f"127.0.0.1:{DEFAULT_PORT}", help="HOST:PORT; port 0 takes a free one"
    )
    flags.add_argument("--tls-cert", type=Path, help="certificate chain, PEM")
    flags.add_argument("--tls-key", type=Path, help="its key, PEM")
    flags.add_argument(
        "--tls-self-signed", action="store_true", help="make and keep a certificate; tokens pin it"
    )
    flags.add_argument("--port-file", type=Path, help="write the port here once it is bound")
    flags.add_argument(
        "--keep-finished",
        default="30d",
        metavar="TIME",
        help="how long finished jobs, their events and results are kept: 45m, 12h, 30d",
    )
    _add_blobs(flags)
    _add_notices(flags)
    flags.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=SECONDS",
        help=f"a timing; names: {', '.join(CoreSettings.model_fields)}",
    )
    flags.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="settings file with sections, as [training]; default HOME/lineshaft.toml if it exists",
    )
    flags.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    flags.add_argument("--log-style", default="auto", choices=["auto", "json", "human"])
    return flags


def _add_blobs(flags: argparse.ArgumentParser) -> None:
    flags.add_argument(
        "--blobs-by-wire",
        action="store_true",
        help="send large values over connections also on this machine, never as files",
    )
    flags.add_argument(
        "--blob-store",
        metavar="URL",
        help="keep large values there: s3://BUCKET/PREFIX, file:///SHARED/FOLDER, or whatever "
        "fsspec opens; default LINESHAFT_BLOB_STORE, or files in the data folder",
    )
    flags.add_argument(
        "--models-bytes-max",
        type=_size,
        metavar="SIZE",
        help="what uploads to /api/models may have together, as 200GiB; default: what the disk has",
    )


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _add_notices(flags: argparse.ArgumentParser) -> None:
    flags.add_argument(
        "--redis-url", metavar="URL", help="announce checkpoints there; default REDIS_URL, or not"
    )
    flags.add_argument(
        "--redis-instance", metavar="ID", help="whose channel; default FKS_INSTANCE_ID, or default"
    )
    flags.add_argument(
        "--notices-folder",
        type=Path,
        metavar="DIR",
        help="copy announced checkpoints there; default: links in DATA/checkpoints",
    )
    flags.add_argument(
        "--notices-kept",
        type=int,
        default=DEFAULT_KEPT,
        metavar="N",
        help=f"announced versions of a model that stay; {DEFAULT_KEPT} by default",
    )


def home() -> Path:
    """Where programs of this user find the coordinator: ``LINESHAFT_HOME`` or ``~/.lineshaft``."""
    return Path(os.environ.get("LINESHAFT_HOME") or Path.home() / ".lineshaft")


def settings_of(arguments: Sequence[str] | None) -> CoordinatorSettings:
    """Read the flags.

    Raises:
        SystemExit: They are wrong; the message says how.
    """
    flags = parser()
    chosen = flags.parse_args(arguments)
    try:
        keep_finished_s = parse_duration(chosen.keep_finished)
    except ValueError as error:
        flags.error(f"--keep-finished: {error}")
    host, _, port = str(chosen.listen).rpartition(":")
    if not port.isdecimal():
        flags.error(f"--listen takes HOST:PORT, not {chosen.listen!r}")
    folder = home()
    data: Path = chosen.data or folder / "data"
    certificate, key = chosen.tls_cert, chosen.tls_key
    if chosen.tls_self_signed:
        certificate, key = self_signed(data)
    if (certificate is None) != (key is None):
        flags.error("--tls-cert and --tls-key belong together")
    configure_logging(chosen.log_level, chosen.log_style)
    return CoordinatorSettings(
        data=data,
        home=folder,
        host=host.strip("[]") or "127.0.0.1",
        port=int(port),
        tls_certificate=certificate,
        tls_key=key,
        port_file=chosen.port_file,
        keep_finished_s=keep_finished_s,
        blob_store=chosen.blob_store or os.environ.get("LINESHAFT_BLOB_STORE") or None,
        hands_over_files=not chosen.blobs_by_wire,
        models_bytes_max=chosen.models_bytes_max,
        training=_training(flags, chosen.config, folder),
        notices=_notices(flags, chosen),
        core=_timings(flags, chosen.set),
    )


def _training(
    flags: argparse.ArgumentParser, chosen: Path | None, folder: Path
) -> TrainingSettings:
    path = chosen or folder / "lineshaft.toml"
    try:
        sections = read_settings_file(path, must_exist=chosen is not None)
        return training_settings(sections.get("training", {}), os.environ)
    except ValidationError as error:
        first = error.errors()[0]
        names = ".".join(map(str, first["loc"]))
        flags.error(f"section [training] of {path}, or the environment: {names}: {first['msg']}")
    except (OSError, ValueError) as error:
        flags.error(f"{path}: {error}")


def _notices(
    flags: argparse.ArgumentParser, chosen: argparse.Namespace
) -> AnnouncerSettings | None:
    try:
        return AnnouncerSettings.chosen(
            os.environ,
            url=chosen.redis_url,
            instance_id=chosen.redis_instance,
            folder=chosen.notices_folder,
            kept=chosen.notices_kept,
        )
    except ValidationError as error:
        flags.error(f"--notices-{error.errors()[0]['loc'][0]}: {error.errors()[0]['msg']}")


def _timings(flags: argparse.ArgumentParser, texts: Sequence[str]) -> CoreSettings:
    values: dict[str, str] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name not in CoreSettings.model_fields:
            close = difflib.get_close_matches(name, CoreSettings.model_fields, n=1)
            flags.error(
                f"--set knows no {name!r}" + (f"; did you mean {close[0]}?" if close else "")
            )
        values[name] = value
    try:
        return CoreSettings.model_validate(values)
    except ValidationError as error:
        flags.error(f"--set: {error.errors()[0]['msg']} ({error.errors()[0]['loc'][0]})")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the daemon, or a command on its data; returns its exit status."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        if words and words[0] in COMMANDS:
            from lineshaft_coordinator import commands  # noqa: PLC0415 - a daemon needs none

            return commands.main(words[0], words[1:], home())
        settings = settings_of(words)
        run(serve(settings))
    except LineshaftError as error:
        sys.stderr.write(f"lineshaft-coordinator: {error}\n")
        return EXIT_CANNOT_START
    except OSError as error:
        sys.stderr.write(f"lineshaft-coordinator: cannot start: {error}\n")
        return EXIT_CANNOT_START
    return 0


if __name__ == "__main__":
    sys.exit(main())
