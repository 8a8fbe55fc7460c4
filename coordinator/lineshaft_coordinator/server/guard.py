"""Who may ask over HTTP: the same rules for every route."""

from dataclasses import dataclass

from starlette.requests import Request

from lineshaft_coordinator.server.admission import Gate, Grant, Tokens
from lineshaft_coordinator.server.roles import UNSAID, Permission, wrong_role
from lineshaft_runtime.connection import token_of
from lineshaft_runtime.serving import let_in

NO_TOKEN = "send a token for clients: Authorization: Bearer <token>, or ?token=<token>"  # noqa: S105 - a text


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not answered."""

    status: int
    text: str


class Guard:
    """Looks at requests before they are answered."""

    def __init__(self, tokens: Tokens, gate: Gate) -> None:
        self._tokens, self._gate = tokens, gate

    def enter(self, request: Request, takes: Permission = UNSAID) -> Grant | Refusal:
        """Let in whose token may do this; and no other site's page.

        Args:
            request: What was asked.
            takes: What the route takes. `look` is for who sees no output of jobs: the answer must
                hold nothing of it, or leave it out for who may not `read_output`.
        """
        if (refusal := self.refuse_page(request)) is not None:
            return refusal
        grant = self._tokens.grant(token_of(request.headers, request.query_params))
        if grant is None:
            return Refusal(401, NO_TOKEN)
        if not grant.may(takes):
            return Refusal(403, wrong_role(grant.role, takes))
        let_in(request.scope)
        return grant

    def refuse_page(self, request: Request) -> Refusal | None:
        """Refuse what a page of another site may have caused; no token is looked at."""
        headers = request.headers
        rejection = self._gate.refuse_page(headers.get("host"), headers.get("origin"))
        return None if rejection is None else Refusal(rejection.status, rejection.text)
