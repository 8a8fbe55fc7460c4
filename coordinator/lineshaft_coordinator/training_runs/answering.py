"""What every route of seed 000 does: let in, read a body, answer what went wrong."""

from collections.abc import Awaitable, Callable
from typing import TypeAlias, TypeVar, cast

from pydantic import BaseModel, JsonValue, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from lineshaft_coordinator.server.admission import Grant
from lineshaft_coordinator.server.bounded_body import BodyTooLongError, bounded_body
from lineshaft_coordinator.server.guard import Guard, Refusal
from lineshaft_coordinator.server.roles import UNSAID, Permission
from lineshaft_coordinator.store.errors import StoreError, StoreFullError
from lineshaft_coordinator.strict_json import strict
from lineshaft_coordinator.training_runs.desk import RunError

BodyT = TypeVar("BodyT", bound=BaseModel)
Answer: TypeAlias = Callable[[Request, Grant], Awaitable[Response]]


class Answering:
    """Wraps what answers requests."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    def guarded(
        self, answer: Answer, takes: Permission = UNSAID
    ) -> Callable[[Request], Awaitable[Response]]:
        """Let in whose token may do this."""

        async def endpoint(request: Request) -> Response:
            grant = self._guard.enter(request, takes)
            if isinstance(grant, Refusal):
                return problem(grant.status, grant.text)
            try:
                return await answer(request, grant)
            except RunError as error:
                return problem(error.status, str(error))
            except StoreFullError as error:
                return problem(507, str(error))
            except StoreError as error:
                return problem(500, str(error))
            except ValidationError as error:
                first = error.errors()[0]
                where = ".".join(map(str, first["loc"]))
                return problem(400, f"{where}: {first['msg']}" if where else first["msg"])
            except ValueError as error:
                return problem(400, str(error))
            except ClientDisconnect:
                return Response(status_code=400)

        return endpoint


async def body_of(request: Request, model: type[BodyT]) -> BodyT:
    """Read a JSON body.

    Raises:
        RunError: It is too long.
        ValidationError: It is not what it should be.
        ClientDisconnect: The client left meanwhile.
    """
    try:
        return model.model_validate_json(await bounded_body(request))
    except BodyTooLongError as error:
        raise RunError(413, str(error)) from error


def told(data: object, status: int = 200) -> Response:
    """Answer with JSON data; NaN and infinities, which programs report, become null."""
    # Lists and dicts of JSON values are some, too; the types of either do not know.
    return JSONResponse(strict(cast("JsonValue", data)), status_code=status)


def problem(status: int, text: str) -> Response:
    """Say what went wrong."""
    return JSONResponse({"error": text.strip()}, status_code=status)
