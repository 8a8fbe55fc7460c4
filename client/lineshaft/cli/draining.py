"""Taking a worker out of service."""

from lineshaft.async_client import AsyncClient
from lineshaft.cli.exits import NotFoundError
from lineshaft.errors import QueryError
from lineshaft_protocol.client_messages import Drain


async def drain_worker(client: AsyncClient, worker_id: str, *, stops: bool) -> None:
    """Have the coordinator give a worker nothing more.

    Args:
        client: Connected.
        worker_id: Of a worker that is here.
        stops: Whether its daemon ends once it is idle.

    Raises:
        NotFoundError: No worker of this name is here.
    """
    try:
        await client.shell.questions.ask(Drain(request_id=0, worker_id=worker_id, stop=stops))
    except QueryError as error:
        raise NotFoundError(f"{error.message}; 'lineshaft workers' lists them") from error
