"""The client, for programs with an event loop of their own."""

from __future__ import annotations

import asyncio
import copy
import random
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Self, TypeVar

from pydantic import JsonValue

from lineshaft.chunks import ChunkCall, chunks_of
from lineshaft.core.machine import CoreSettings
from lineshaft.errors import ClientClosedError
from lineshaft.job import AsyncJob
from lineshaft.job_array import AsyncJobArray, find_array
from lineshaft.job_files import FilesLike
from lineshaft.locating import default_client_id, locate, named
from lineshaft.mapping import in_flight
from lineshaft.shell import Shell
from lineshaft.shipping import Shipper
from lineshaft.storing import store
from lineshaft.stream import AsyncStream
from lineshaft.stream_flow import StreamFlow
from lineshaft.work import Work, fitted_of, output_of
from lineshaft_protocol.client_messages import Query
from lineshaft_protocol.ids import ClientId
from lineshaft_runtime.data_refs import DataRef

if TYPE_CHECKING:
    from typing import Unpack

    from lineshaft.fitted import Fitted
    from lineshaft.graph import Graph
    from lineshaft.options import JobOptions
    from lineshaft.pipeline import Pipeline

ResultT = TypeVar("ResultT")

SENT_S = 10.0
"""How long closing waits for jobs that the coordinator has not confirmed yet, in seconds."""


class AsyncClient:
    """Submits jobs to a coordinator, and waits for them as long as anybody here wants to.

        async with AsyncClient() as client:
            job = client.submit(train, seed=3, resources={"gpus": 1}, retries=2)
            model = await job

    Once connected, cuts of the connection are mended without anybody noticing. Closing the client
    ends the waiting, never the jobs.

    Args:
        url: `host:port`, `ws://…` or `wss://…`; by default `LINESHAFT_URL`, or the coordinator of
            this machine.
        token: By default from `LINESHAFT_TOKEN`, `LINESHAFT_TOKEN_FILE` or the folder
            `LINESHAFT_HOME` (`~/.lineshaft`).
        client_id: Name of this client in queues and records; by default user, host and process.
        connect_timeout: How long the first connection may take, in seconds.

    Raises:
        NoCoordinatorError: No URL is given, and none is known on this machine.
        NoTokenError: There is no token for it.
        BadUrlError: The URL is none.
        UnencryptedTokenError: The token names a certificate, but the URL says `ws://`.
        BadTokenError: What was given as a token is none.
        BadNameError: The client's name is none.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        client_id: str | None = None,
        connect_timeout: float = 10.0,
        settings: CoreSettings | None = None,
    ) -> None:
        self._where = locate(url, token)
        self._client_id = ClientId(named("a client", client_id or default_client_id()))
        self._connect_timeout_s = connect_timeout
        self._settings = settings or CoreSettings()
        self._work = Work(Shipper())
        self._shell: Shell | None = None

    @property
    def url(self) -> str:
        """Where the coordinator is."""
        return self._where.url

    @property
    def work(self) -> Work:
        """What makes jobs ready to be sent; may be used in any thread."""
        return self._work

    @property
    def shell(self) -> Shell:
        """What sends them.

        Raises:
            ClientClosedError: The client is not connected, or closed.
        """
        if self._shell is None:
            raise ClientClosedError
        return self._shell

    async def connect(self) -> Self:
        """Connect; `async with` does it as well.

        Raises:
            CoordinatorUnreachableError: The coordinator is not there within `connect_timeout`.
            AccessDeniedError: It does not accept our token.
            WrongCertificateError: It is another one than the token is for.
            IncompatibleVersionError: It is too old or too new for us.
        """
        rng = random.Random()  # noqa: S311 - jitter is no secret
        shell = Shell(self._where, client_id=self._client_id, settings=self._settings, rng=rng)
        await shell.start(self._connect_timeout_s)
        self._shell = shell
        self._work.shipper.lay = shell.files.lay
        return self

    async def close(self) -> None:
        """End the connection, once the coordinator has all jobs; those go on."""
        shell, self._shell = self._shell, None
        if shell is not None:
            await shell.jobs.sent(SENT_S)
            await shell.close()

    async def __aenter__(self) -> Self:
        return await self.connect()

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def options(self, **given: Unpack[JobOptions]) -> Self:
        """Return this client with options for the jobs it is given, as `retries=2`.

        All arguments of `submit` are then the function's own, whatever their names.

        Raises:
            InvalidJobError: An option is not possible.
        """
        other = copy.copy(self)
        other._work = self._work.with_options(given)  # noqa: SLF001 - our own class
        return other

    # --- jobs ---

    def submit(
        self, function: Callable[..., ResultT], /, *args: object, **kwargs: object
    ) -> AsyncJob[ResultT]:
        """Call a function on a worker.

        Arguments named as a field of `JobOptions` (`resources`, `retries`, `timeout`, …) are
        options of the job; for a function with parameters of these names, use
        `client.options(...).submit(function, ...)`.

        Raises:
            CannotPackError: The function or an argument cannot leave the process.
            InvalidJobError: An option is not possible.
        """
        prepared = self._work.call(function, args, kwargs)
        job: AsyncJob[ResultT] = AsyncJob(self.shell, prepared.spec.job_id)
        job.submit(prepared)
        return job

    async def put(self, value: object) -> DataRef:
        """Keep a value with the coordinator, to be used in many jobs.

        Pass the reference wherever a job takes arguments, also within lists and objects: the
        function gets the value, which is sent to a worker once. It is kept while a job names it,
        and for a day at least.

        Raises:
            CannotPackError: Some part cannot leave the process.
            BlobRefusedError: The coordinator cannot store it.
            ClientClosedError: The client is closed.
        """
        blob = await asyncio.to_thread(self._work.shipper.value, value)
        await store(blob, self.shell.transfers, self.shell.files)
        return DataRef(blob.id, len(blob.data))

    async def map(
        self, function: Callable[..., ResultT], /, *iterables: Iterable[object], chunksize: int = 1
    ) -> AsyncGenerator[ResultT]:
        """Yield the results of calling a function for each of the arguments, in order.

        Args:
            function: As for `submit`.
            iterables: Arguments, as for the built-in `map`.
            chunksize: Calls in one job: more, if a call takes less than some milliseconds.

        Raises:
            Exception: Whatever a call raised; the others are cancelled.
        """
        arguments = zip(*iterables, strict=False)
        if chunksize <= 1:
            jobs = in_flight(lambda each: self._start(function, each), arguments)
            try:
                for job in jobs:
                    yield await job
            finally:
                jobs.close()
            return
        call = ChunkCall(function)
        chunks = chunks_of(arguments, chunksize)
        chunk_jobs = in_flight(lambda chunk: self._start(call, (chunk,)), chunks)
        try:
            for chunk_job in chunk_jobs:
                for result in await chunk_job:
                    yield result
        finally:
            chunk_jobs.close()

    async def fit(self, subject: Pipeline | Graph, x: object, y: object = None) -> Fitted:
        """Fit a pipeline or graph on workers.

        Raises:
            GraphError: It cannot be compiled.
            CannotPackError: A filter or the data cannot leave the process.
            Exception: Whatever a filter raised.
        """
        prepared = self._work.fit(subject, x, y)
        job = AsyncJob(self.shell, prepared.spec.job_id, lambda data: fitted_of(subject, data))
        job.submit(prepared)
        return await job

    async def forward(self, subject: Fitted | Pipeline | Graph, x: object) -> object:
        """Run what was fitted on workers, and return its output.

        Raises:
            GraphError: It cannot be compiled.
            CannotPackError: A filter, a state or the input cannot leave the process.
            Exception: Whatever a filter raised.
        """
        prepared = self._work.forward(subject, x)
        job = AsyncJob(self.shell, prepared.spec.job_id, output_of)
        job.submit(prepared)
        return await job

    def stream(
        self,
        subject: Fitted | Pipeline | Graph,
        chunks: Iterable[object] | AsyncIterable[object],
        *,
        total_chunks: int | None = None,
    ) -> AsyncStream:
        """Take chunks through what was fitted, one after the other, and yield their outputs.

            async for labels in client.stream(fitted, chunks): ...

        Outputs come in the order of the chunks, while others are still being sent. However fast the
        source or slow the reader, a window bounds what is under way.

        Args:
            subject: What the chunks pass through. A filter's `_stream_mode` says whether it keeps
                its state ("fixed"), changes it with each chunk ("evolving") or needs all chunks
                ("barrier"; then there is one output, at the end).
            chunks: Where they come from; an ordinary iterable is read in a thread of its own.
            total_chunks: How many there are, if that is known; it is then checked.

        Raises:
            GraphError: It cannot be compiled.
            CannotPackError: A filter or a state cannot leave the process.
        """
        flow = StreamFlow(self.shell, self._work.stream(subject), total_chunks)
        flow.start(chunks)
        return AsyncStream(flow, self.shell, subject)

    def run(
        self,
        entry_point: str,
        *,
        files: FilesLike = (),
        params: Mapping[str, object] | None = None,
        input_data: object = None,
        **options: Unpack[JobOptions],
    ) -> AsyncJob[object]:
        """Run files in an environment of their own.

        Args:
            entry_point: `train.py`, `train.py:main` or `package.module:main`.
            files: Paths of files or folders; or names in the job, with contents or paths.
            params: For the function, by name, and in `lineshaft.run.params`.
            input_data: For `lineshaft.run.input_data()`.
            options: Of the job, as `requirements` and `python`. What a script itself says it needs
                (PEP 723) is installed as well.

        Raises:
            BundleError: A file may not be there, or there is too much.
            RequirementsError: A requirement cannot be read.
            CannotPackError: A parameter or the data cannot leave the process.
            InvalidJobError: An option is not possible.
            OSError: A file cannot be read.
        """
        prepared = self._work.run(
            entry_point,
            files=files,
            params=params,
            input_data=input_data,
            options=options,
        )
        job: AsyncJob[object] = AsyncJob(self.shell, prepared.spec.job_id)
        job.submit(prepared)
        return job

    def array(
        self,
        entry_point: str,
        params: int | Sequence[Mapping[str, object]],
        *,
        files: FilesLike = (),
        at_most: int | None = None,
        **options: Unpack[JobOptions],
    ) -> AsyncJobArray:
        """Run files once for each set of parameters, as jobs that belong together; see arrays.md.

        Args:
            entry_point: As for `run`, as are the options.
            params: Of each item; or how many items there are, each with the parameter `item`.
            files: As for `run`; sent once.
            at_most: How many may be under way at a time; None for as many as there is room for.
            options: Of each item.

        Raises:
            InvalidJobError: It has no items, too many, or an option is not possible.
            LineshaftError: As `run` raises it.
            OSError: A file cannot be read.
        """
        array_id, items = self._work.array(
            entry_point, params, files=files, at_most=at_most, options=options
        )
        jobs = [AsyncJob[object](self.shell, each.spec.job_id) for each in items]
        for job, prepared in zip(jobs, items, strict=True):
            job.submit(prepared)
        return AsyncJobArray(self.shell, array_id, jobs)

    async def find_array(self, array_id: str) -> AsyncJobArray:
        """Return an array that was submitted earlier, by whomever.

        Raises:
            QueryError: The coordinator does not know it.
            JobRefusedError: Not all of its items were submitted.
        """
        return await find_array(self.shell, named("an array", array_id))

    def job(self, job_id: str) -> AsyncJob[object]:
        """Return a job that was submitted earlier, by whomever. Raises BadNameError."""
        return AsyncJob(self.shell, named("a job", job_id))

    # --- questions ---

    async def jobs(
        self, *, status: str | None = None, limit: int = 100, owner: str | None = None
    ) -> JsonValue:
        """Return jobs, the last submitted first. Raises ValueError for what there cannot be.

        Args:
            status: "live", "queued", "running", "succeeded", "failed" or "cancelled"; None for all.
            limit: The most to return; 1 to 1000.
            owner: Only those submitted by the token of this id, or by one's own: "me".
        """
        return await self.shell.questions.ask_jobs(status, limit, owner)

    async def workers(self) -> JsonValue:
        """Return all workers that are here, or that have jobs."""
        return await self.shell.questions.ask(Query(request_id=0, what="workers"))

    async def info(self) -> JsonValue:
        """Return what the coordinator is and how much it has to do."""
        return await self.shell.questions.ask(Query(request_id=0, what="info"))

    async def why(self, job_id: str) -> JsonValue:
        """Tell why a job is where it is, or how it ended.

        Raises:
            QueryError: The coordinator does not know the job.
        """
        return await self.job(job_id).why()

    async def story(self, job_id: str) -> JsonValue:
        """Return every record about a job, in order.

        Raises:
            QueryError: The coordinator does not know the job.
        """
        return await self.job(job_id).story()

    def _start(
        self, function: Callable[..., ResultT], args: tuple[object, ...]
    ) -> AsyncJob[ResultT]:
        prepared = self._work.call(function, args, {})
        job: AsyncJob[ResultT] = AsyncJob(self.shell, prepared.spec.job_id)
        job.submit(prepared)
        return job
