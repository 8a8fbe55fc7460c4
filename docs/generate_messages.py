"""Writes the tables of protocol/README.md from the messages themselves.

python docs/generate_messages.py           write them
python docs/generate_messages.py --check   fail if they are not as the messages are
"""  # noqa: INP001 - a script, not a package

import ast
import inspect
import itertools
import json
import re
import sys
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, cast, get_args

from lineshaft_coordinator.core.settings import CoreSettings
from lineshaft_coordinator.data.transfers import TRANSFERS_MAX
from lineshaft_coordinator.server.serve import CHUNK_FRAME_BYTES, CONTROL_FRAME_BYTES
from lineshaft_protocol import (
    client_messages,
    outcomes,
    stream_flow,
    stream_frames,
    worker_messages,
)
from lineshaft_protocol.blob_messages import (
    BlobAck,
    BlobHere,
    BlobMissing,
    BlobOffer,
    BlobRefused,
    BlobStatus,
    FetchBlob,
    SameHost,
    SameHostFolder,
)
from lineshaft_protocol.codec import BATCH_BYTES
from lineshaft_protocol.frames import CHUNK_BYTES, CHUNK_BYTES_MAX, WINDOW_BYTES
from lineshaft_protocol.jobs import INLINE_BYTES_MAX
from lineshaft_protocol.versions import FEATURES, PROTOCOL_MAX, PROTOCOL_MIN
from lineshaft_protocol.wire import Wire

PAGE = Path(__file__).parents[1] / "protocol" / "README.md"
DIGEST_PATTERN = "^[0-9a-f]{64}$"
NAME_PATTERN = "^[A-Za-z0-9][A-Za-z0-9_.:@+-]{0,127}$"

BLOB_MESSAGES = Annotated[
    BlobOffer
    | BlobStatus
    | BlobRefused
    | FetchBlob
    | BlobMissing
    | BlobAck
    | SameHost
    | SameHostFolder
    | BlobHere,
    "both ways",
]

Schema = Mapping[str, object]
Models = Mapping[str, type[Wire]]


def main(arguments: list[str]) -> int:
    """Write the page, or check it; returns the exit status."""
    before = PAGE.read_text()
    after = page(before)
    if arguments == ["--check"]:
        if before == after:
            return 0
        sys.stderr.write(f"{PAGE} is out of date; run: python docs/generate_messages.py\n")
        return 1
    PAGE.write_text(after)
    return 0


def page(text: str) -> str:
    """The page with its generated parts made anew."""
    parts = {
        "limits": limits(),
        "from-client": messages(client_messages.FromClient),
        "to-client": messages(client_messages.ToClient),
        "from-worker": messages(worker_messages.FromWorker),
        "to-worker": messages(worker_messages.ToWorker),
        "blobs": "\n\n".join(section(model) for model in members(BLOB_MESSAGES)),
        "structures": structures(),
        "causes": causes(),
    }
    for name, body in parts.items():
        begin, end = f"<!-- generated: {name} -->", f"<!-- end: {name} -->"
        before, _, rest = text.partition(begin)
        _, found, after = rest.partition(end)
        assert found, f"{PAGE} has no place for {name}"
        text = f"{before}{begin}\n\n{body.strip()}\n\n{end}{after}"
    return text


# --- messages and what they are made of ---


def members(union: object) -> list[type[Wire]]:
    """The models of a discriminated union."""
    return list(get_args(get_args(union)[0]))


def messages(union: object) -> str:
    """One section for each message of a direction, but for those that go in all of them."""
    blobs = members(BLOB_MESSAGES)
    return "\n\n".join(section(model) for model in members(union) if model not in blobs)


def all_messages() -> list[type[Wire]]:
    """Every message, each once."""
    modules = (client_messages, worker_messages)
    names = ("FromClient", "ToClient", "FromWorker", "ToWorker")
    unions = [
        getattr(module, name) for module in modules for name in names if hasattr(module, name)
    ]
    return list(dict.fromkeys(model for union in unions for model in members(union)))


def structures() -> str:
    """One section for each model that is a part of messages."""
    found: dict[str, type[Wire]] = {}
    queue = all_messages()
    tops = {model.__name__ for model in queue}
    while queue:
        for name, part in parts_of(queue.pop(0)).items():
            if name not in found and name not in tops:
                found[name] = part
                queue.append(part)
    return "\n\n".join(section(found[name]) for name in sorted(found))


def parts_of(model: type[Wire]) -> dict[str, type[Wire]]:
    """The models in the fields of a model."""
    found: dict[str, type[Wire]] = {}
    for field in model.model_fields.values():
        queue: list[object] = [field.annotation]
        while queue:
            kind = queue.pop()
            if isinstance(kind, type) and issubclass(kind, Wire):
                found[kind.__name__] = kind
            queue += get_args(kind)
    return found


def section(model: type[Wire]) -> str:
    """Heading, sentence and table of a model."""
    text = inspect.cleandoc(model.__doc__ or "")
    lines = [f"#### {model.__name__}", "", plain(text)]
    schema = model.model_json_schema()
    required = cast("list[str]", schema.get("required", []))
    fields = cast("Mapping[str, Schema]", schema.get("properties", {}))
    rows = [
        (f"`{name}`", type_text(field), default_text(name, field, required), note)
        for (name, field), note in zip(fields.items(), notes(model, fields), strict=True)
        if name != "type"
    ]
    if rows:
        lines += ["", "| field | type | if left out | |", "|---|---|---|---|"]
        lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


def notes(model: type[Wire], names: Iterable[str]) -> list[str]:
    """The docstrings below the fields."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(model)))
    body = cast("ast.ClassDef", tree.body[0]).body
    found: dict[str, str] = {}
    for field, below in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            match below:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    found[field.target.id] = plain(inspect.cleandoc(text))
                case _:
                    pass
    return [found.get(name, "") for name in names]


def plain(text: str) -> str:
    """Docstring text as Markdown, on one line."""
    words = text.replace("``", "`").replace("`None`", "absent").split()
    return " ".join(words).replace("|", "\\|")


def type_text(schema: Schema) -> str:
    """A type in JSON's words."""
    if (reference := schema.get("$ref")) is not None:
        name = str(reference).rpartition("/")[2]
        return "any JSON" if name == "JsonValue" else f"[{name}](#{name.lower()})"
    if (choices := schema.get("anyOf")) is not None:
        kinds = [c for c in cast("list[Schema]", choices) if c.get("type") != "null"]
        return " or ".join(dict.fromkeys(type_text(kind) for kind in kinds)) or "anything"
    if (values := schema.get("enum")) is not None:
        return ", ".join(f"`{value}`" for value in cast("list[str]", values))
    match schema.get("type"):
        case "string":
            return string_text(schema)
        case "array":
            return f"array of {type_text(cast('Schema', schema.get('items', {})))}"
        case "object":
            return "object"
        case "integer" | "number" as kind:
            return str(kind) + range_text(schema)
        case "boolean":
            return "boolean"
        case _:
            return "anything"


def string_text(schema: Schema) -> str:
    """A string, by the kind of text it may be."""
    match schema.get("pattern"):
        case None:
            limit = schema.get("maxLength")
            return "string" if limit is None else f"string, at most {limit} long"
        case str(pattern) if pattern == DIGEST_PATTERN:
            return "digest"
        case str(pattern) if pattern == NAME_PATTERN:
            return "name"
        case pattern:
            return f"string `{str(pattern).replace('|', chr(92) + '|')}`"


def range_text(schema: Schema) -> str:
    """The limits of a number."""
    words = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤"}
    limits = [f"{sign} {schema[key]:g}" for key, sign in words.items() if key in schema]
    return f" {', '.join(limits)}" if limits else ""


def default_text(name: str, schema: Schema, required: Iterable[str]) -> str:
    """What a field is when it is not there."""
    if name in required:
        return "required"
    default = schema.get("default")
    return "nothing" if default is None else f"`{json.dumps(default)}`"


def causes() -> str:
    """The causes of failures, with the sentences beside them in the source."""
    source = inspect.getsource(outcomes)
    found = re.findall(r'^    "(\w+)",  # (.+)$', source, re.MULTILINE)
    assert [name for name, _ in found] == list(get_args(outcomes.FailureCause))
    return "\n".join(
        ["| cause | when |", "|---|---|", *(f"| `{n}` | {text} |" for n, text in found)]
    )


def limits() -> str:
    """The numbers that a peer must know."""
    settings = CoreSettings()
    rows = [
        ("protocol versions spoken", f"{PROTOCOL_MIN} to {PROTOCOL_MAX}"),
        ("features of this build", ", ".join(f"`{name}`" for name in FEATURES)),
        ("longest text frame accepted", amount(CONTROL_FRAME_BYTES)),
        ("longest binary frame accepted", amount(CHUNK_FRAME_BYTES)),
        ("longest chunk of a stream", amount(stream_frames.CHUNK_BYTES_MAX)),
        ("chunks of a stream in one frame", str(stream_frames.CHUNKS_MAX)),
        ("bytes of a stream under way in one direction", amount(stream_flow.WINDOW_BYTES)),
        ("chunks of a stream under way in one direction", str(stream_flow.WINDOW_CHUNKS)),
        ("a batch is sent once it has", amount(BATCH_BYTES)),
        ("longest payload or result in a message", amount(INLINE_BYTES_MAX)),
        ("chunks we send", amount(CHUNK_BYTES)),
        ("longest chunk accepted", amount(CHUNK_BYTES_MAX)),
        ("bytes of one blob under way without a BlobAck", amount(WINDOW_BYTES)),
        ("uploads, and downloads, at once on a session", f"{TRANSFERS_MAX}"),
        ("a worker's heartbeat, told in Registered", f"{settings.heartbeat_s:g} s"),
        ("silence that ends a worker's session, told in Registered", f"{settings.silence_s:g} s"),
        (
            "silence that ends a client's session, told in Welcome",
            f"{settings.client_silence_s:g} s",
        ),
        ("the lease of an attempt whose Assign names none", f"{settings.lease_s:g} s"),
        ("wait for a vanished worker: pipelines and streams", f"{settings.lost_after_s:g} s"),
        ("wait for a vanished worker: functions and plans", f"{settings.lost_after_brief_s:g} s"),
        (
            "after its own start the coordinator judges nobody lost for",
            f"{settings.recovery_s:g} s",
        ),
    ]
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def amount(count: int) -> str:
    """Bytes for people."""
    mib, kib = 1024 * 1024, 1024
    return f"{count // mib} MiB" if count % mib == 0 else f"{count // kib} KiB"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
