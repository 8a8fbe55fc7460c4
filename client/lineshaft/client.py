"""The client, for programs without an event loop."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Self, TypeVar

from pydantic import JsonValue

from lineshaft.async_client import AsyncClient
from lineshaft.blocking_job import Job
from lineshaft.chunks import ChunkCall, chunks_of
from lineshaft.errors import LineshaftError
from lineshaft.future_jobs import submit_for
from lineshaft.futures import LineshaftFuture
from lineshaft.job import AsyncJob, Decode
from lineshaft.job_array import AsyncJobArray, JobArray
from lineshaft.loop_thread import HeldThread, LoopThread
from lineshaft.mapping import in_flight
from lineshaft.stream import Stream
from lineshaft.stream_flow import StreamFlow
from lineshaft.work import fitted_of, output_of
from lineshaft_protocol.ids import JobId
from lineshaft_runtime.data_refs import DataRef

if TYPE_CHECKING:
    from typing import Unpack

    from lineshaft.core.machine import CoreSettings
    from lineshaft.fitted import Fitted
    from lineshaft.graph import Graph
    from lineshaft.job_files import FilesLike
    from lineshaft.options import JobOptions
    from lineshaft.pipeline import Pipeline
    from lineshaft.shell import Shell
    from lineshaft.shipping import Prepared

ResultT = TypeVar("ResultT")


class Client:
    """Submits jobs to a coordinator, and waits for them as long as anybody here wants to.

        with Client() as client:
            future = client.submit(train, seed=3, resources={"gpus": 1}, retries=2)
            model = future.result()

    It is connected once it is made. Cuts of the connection are mended without anybody noticing.
    Closing the client ends the waiting, never the jobs: a future that is not done then raises
    `ClientClosedError`, and `Client().job(future.id).result()` waits again. All methods may be
    called from any thread, also where an event loop runs, as in a notebook; but not in a process
    forked from the one that made the client.

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
        CoordinatorUnreachableError: The coordinator is not there within `connect_timeout`.
        AccessDeniedError: It does not accept our token.
        WrongCertificateError: It is another one than the token is for.
        IncompatibleVersionError: It is too old or too new for us.
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
        self._client = AsyncClient(
            url,
            token=token,
            client_id=client_id,
            connect_timeout=connect_timeout,
            settings=settings,
        )
        self._thread = LoopThread("lineshaft client")
        try:
            self._thread.run(self._client.connect())
        except BaseException:
            self._thread.stop()
            raise
        self._shell: Shell = self._client.shell
        self._thread.together = self._shell.together
        self._work = self._client.work
        # Also at the end of the interpreter, if nobody closes it.
        self._finalizer = weakref.finalize(self, _close, self._thread, self._client)
        self._origin: Client | None = None
        """Whose connection this is, if not its own; it must not go away before this."""

    @property
    def url(self) -> str:
        """Where the coordinator is."""
        return self._client.url

    def close(self) -> None:
        """End the connection, once the coordinator has all jobs; those go on."""
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def options(self, **given: Unpack[JobOptions]) -> Self:
        """Return this client with options for the jobs it is given, as `retries=2`.

        All arguments of `submit` are then the function's own, whatever their names.

        Raises:
            InvalidJobError: An option is not possible.
        """
        other = copy.copy(self)
        other._origin = self  # noqa: SLF001 - our own class
        other._client = self._client.options(**given)  # noqa: SLF001 - our own class
        other._work = other._client.work  # noqa: SLF001 - our own class
        return other

    # --- jobs ---

    def submit(
        self, function: Callable[..., ResultT], /, *args: object, **kwargs: object
    ) -> LineshaftFuture[ResultT]:
        """Call a function on a worker.

        Arguments named as a field of `JobOptions` (`resources`, `retries`, `timeout`, …) are
        options of the job; for a function with parameters of these names, use
        `client.options(...).submit(function, ...)`.

        Raises:
            CannotPackError: The function or an argument cannot leave the process.
            InvalidJobError: An option is not possible.
            ClientClosedError: The client is closed.
        """
        prepared = self._work.call(function, args, kwargs)
        future: LineshaftFuture[ResultT] = LineshaftFuture(
            prepared.spec.job_id, Client._cancel, self
        )
        submit_for(self._shell, prepared, future, self._thread)
        return future

    def put(self, value: object) -> DataRef:
        """Keep a value with the coordinator, to be used in many jobs.

        Pass the reference wherever a job takes arguments, also within lists and objects: the
        function gets the value, which is sent to a worker once. It is kept while a job names it,
        and for a day at least.

        Raises:
            CannotPackError: Some part cannot leave the process.
            BlobRefusedError: The coordinator cannot store it.
            ClientClosedError: The client is closed.
        """
        return self._thread.run(self._client.put(value))

    def map(
        self, function: Callable[..., ResultT], /, *iterables: Iterable[object], chunksize: int = 1
    ) -> Generator[ResultT]:
        """Call a function for each of the arguments, and return the results as they are taken.

        The first calls are submitted at once, the others as results are taken; those that nobody
        takes are cancelled when the generator is closed.

        Args:
            function: As for `submit`.
            iterables: Arguments, as for the built-in `map`.
            chunksize: Calls in one job: more, if a call takes less than some milliseconds.

        Raises:
            Exception: Whatever a call raised; the others are cancelled.
        """
        arguments = zip(*iterables, strict=False)
        submit = self.options().submit  # The arguments are the function's own.
        if chunksize <= 1:
            return _results(in_flight(lambda each: submit(function, *each), arguments))
        call = ChunkCall(function)
        chunks = chunks_of(arguments, chunksize)
        return _flattened(in_flight(lambda chunk: submit(call, chunk), chunks))

    def fit(self, subject: Pipeline | Graph, x: object, y: object = None) -> Fitted:
        """Fit a pipeline or graph on workers.

        Raises:
            GraphError: It cannot be compiled.
            CannotPackError: A filter or the data cannot leave the process.
            Exception: Whatever a filter raised.
        """
        prepared = self._work.fit(subject, x, y)
        return self._submit(prepared, lambda data: fitted_of(subject, data)).result()

    def forward(self, subject: Fitted | Pipeline | Graph, x: object) -> object:
        """Run what was fitted on workers, and return its output.

        Raises:
            GraphError: It cannot be compiled.
            CannotPackError: A filter, a state or the input cannot leave the process.
            Exception: Whatever a filter raised.
        """
        return self._submit(self._work.forward(subject, x), output_of).result()

    def stream(
        self,
        subject: Fitted | Pipeline | Graph,
        chunks: Iterable[object],
        *,
        total_chunks: int | None = None,
    ) -> Stream:
        """Take chunks through what was fitted, one after the other, and yield their outputs.

            for labels in client.stream(fitted, chunks): ...

        Outputs come in the order of the chunks, while others are still being sent. However fast the
        source or slow the reader, a window bounds what is under way.

        Args:
            subject: What the chunks pass through. A filter's `_stream_mode` says whether it keeps
                its state ("fixed"), changes it with each chunk ("evolving") or needs all chunks
                ("barrier"; then there is one output, at the end).
            chunks: Where they come from; read in a thread of its own.
            total_chunks: How many there are, if that is known; it is then checked.

        Raises:
            GraphError: It cannot be compiled.
            CannotPackError: A filter or a state cannot leave the process.
        """
        prepared = self._work.stream(subject)

        async def start() -> StreamFlow:
            flow = StreamFlow(self._shell, prepared, total_chunks)
            flow.start(chunks)
            return flow

        return Stream(self._thread.run(start()), self._shell, subject, self._held())

    def run(
        self,
        entry_point: str,
        *,
        files: FilesLike = (),
        params: Mapping[str, object] | None = None,
        input_data: object = None,
        **options: Unpack[JobOptions],
    ) -> Job[object]:
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
            entry_point, files=files, params=params, input_data=input_data, options=options
        )
        return self._submit(prepared)

    def array(
        self,
        entry_point: str,
        params: int | Sequence[Mapping[str, object]],
        *,
        files: FilesLike = (),
        at_most: int | None = None,
        **options: Unpack[JobOptions],
    ) -> JobArray:
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
        jobs = [AsyncJob[object](self._shell, each.spec.job_id) for each in items]

        async def submit() -> None:
            for job, prepared in zip(jobs, items, strict=True):
                job.submit(prepared)

        self._thread.run(submit())
        return JobArray(AsyncJobArray(self._shell, array_id, jobs), self._held())

    def find_array(self, array_id: str) -> JobArray:
        """Return an array that was submitted earlier, by whomever.

        Raises:
            QueryError: The coordinator does not know it.
            JobRefusedError: Not all of its items were submitted.
        """
        return JobArray(self._thread.run(self._client.find_array(array_id)), self._held())

    def job(self, job_id: str) -> Job[object]:
        """Return a job that was submitted earlier, by whomever. Raises BadNameError."""
        return Job(self._client.job(job_id), self._held())

    # --- questions ---

    def jobs(
        self, *, status: str | None = None, limit: int = 100, owner: str | None = None
    ) -> JsonValue:
        """Return jobs, the last submitted first. Raises ValueError for what there cannot be.

        Args:
            status: "live", "queued", "running", "succeeded", "failed" or "cancelled"; None for all.
            limit: The most to return; 1 to 1000.
            owner: Only those submitted by the token of this id, or by one's own: "me".
        """
        return self._thread.run(self._client.jobs(status=status, limit=limit, owner=owner))

    def workers(self) -> JsonValue:
        """Return all workers that are here, or that have jobs."""
        return self._thread.run(self._client.workers())

    def info(self) -> JsonValue:
        """Return what the coordinator is and how much it has to do."""
        return self._thread.run(self._client.info())

    def why(self, job_id: str) -> JsonValue:
        """Tell why a job is where it is, or how it ended; raises as `AsyncClient.why`."""
        return self._thread.run(self._client.why(job_id))

    def story(self, job_id: str) -> JsonValue:
        """Return every record about a job, in order; raises as `AsyncClient.story`."""
        return self._thread.run(self._client.story(job_id))

    def _submit(self, prepared: Prepared, decode: Decode[ResultT] | None = None) -> Job[ResultT]:
        job = AsyncJob(self._shell, prepared.spec.job_id, decode)

        async def submit() -> None:
            job.submit(prepared)

        self._thread.run(submit())
        return Job(job, self._held())

    def _held(self) -> HeldThread:
        return HeldThread(self._thread, self)

    def _cancel(self, job_id: str, reason: str) -> None:
        self._thread.post(partial(self._shell.jobs.cancel, JobId(job_id), reason))


def _results(futures: Generator[LineshaftFuture[ResultT]]) -> Generator[ResultT]:
    try:
        for future in futures:
            yield future.result()
    finally:
        futures.close()


def _flattened(futures: Generator[LineshaftFuture[list[ResultT]]]) -> Generator[ResultT]:
    for results in _results(futures):
        yield from results


def _close(thread: LoopThread, client: AsyncClient) -> None:
    if thread.is_current:
        # The last reference went away in a callback; what could be waited for is done then.
        thread.stop()
        return
    try:
        thread.run(client.close())
    except LineshaftError:
        return  # Closed already, or forked: then it is the parent's.
    finally:
        thread.stop()
