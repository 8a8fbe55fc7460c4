"""What the gateway says, in the words of its peer's dialect.

Where the dialect is not known, a reply has the fields of all of them: readers ignore what they do
not know.
"""

from typing import Final

from lineshaft_protocol.errors import ProtocolError
from lineshaft_protocol.seed import (
    Ack,
    Dialect,
    Error,
    Failed,
    PlanResultMessage,
    encode,
    encode_json,
)

MESSAGE_BYTES_MAX: Final = 64 * 1024 * 1024
"""The longest message that clients of dialects A and B read."""


def error_text(message: str, dialect: Dialect) -> str:
    """Say that a request failed."""
    if dialect == "unknown":
        return encode_json({"type": "Error", "message": message, "error": message})
    return encode(Error(message=message), dialect=dialect)


def bad_message_text(error: ProtocolError, dialect: Dialect) -> str:
    """Answer a text frame that is no message, in upstream's words."""
    return error_text(f"invalid message: {error.reason}", dialect)


def cancel_text(plan_id: str, *, is_cancelled: bool, worker_id: str, dialect: Dialect) -> str:
    """Answer CancelPlan. A and B know only a status, of which upstream's says it cannot cancel."""
    status = {"status": "cancelled" if is_cancelled else "not_running"}
    if dialect in ("A", "B"):
        return encode_json(status)
    reply = Ack(worker_id=worker_id) if is_cancelled else Error(message=_not_running(plan_id))
    if dialect == "C":
        return encode(reply, dialect=dialect)
    return encode_json({**reply.fields_to_wire(dialect), **status})


def result_text(result: bytes | Failed, *, plan_id: str, worker_id: str, dialect: Dialect) -> str:
    """Tell how a plan ended: by a failure, or by the JSON that a runner wrote for this dialect.

    That JSON is not read again: it may be long.
    """
    if isinstance(result, Failed):
        message = PlanResultMessage(worker_id=worker_id, plan_id=plan_id, result=result)
        return encode(message, dialect=dialect)
    if len(result) > MESSAGE_BYTES_MAX - 4096 and dialect != "C":
        error = (
            f"the result has {len(result)} bytes as JSON, and clients of this dialect read at most "
            f"{MESSAGE_BYTES_MAX}; return less, or use a client that sends protocol_version 1"
        )
        failed = Failed(error=error, duration_ms=0)
        return result_text(failed, plan_id=plan_id, worker_id=worker_id, dialect=dialect)
    head = encode_json({"type": "PlanResult", "worker_id": worker_id, "plan_id": plan_id})
    return f'{head[:-1]},"result":{result.decode()}}}'


def _not_running(plan_id: str) -> str:
    return f"no plan {plan_id} of this token is running"
