"""Starts a coordinator, keeps it until it is told to stop, and stops it in order."""

import asyncio
import json
import logging
from collections.abc import Iterable
from pathlib import Path

from lineshaft_coordinator.core.ledger import CorruptJournalError
from lineshaft_coordinator.data.blobs import BlobStore
from lineshaft_coordinator.data.handover import Porch
from lineshaft_coordinator.data.secrets import SecretBox
from lineshaft_coordinator.finetune.machine import machine_of
from lineshaft_coordinator.finetune.server import TrainingServer
from lineshaft_coordinator.metrics.lag import watch_lag
from lineshaft_coordinator.notices.announcer import Announcer, announcing
from lineshaft_coordinator.recorder.gauges import Gauges
from lineshaft_coordinator.recorder.supervisor import Recorder
from lineshaft_coordinator.server.actions import DaemonActions
from lineshaft_coordinator.server.admission import (
    Gate,
    InsecureListenError,
    Tokens,
    is_loopback,
    local_token,
    write_private,
)
from lineshaft_coordinator.server.blob_room import moving, open_blobs
from lineshaft_coordinator.server.certificate_watch import watch_certificate
from lineshaft_coordinator.server.daemon import Daemon
from lineshaft_coordinator.server.parts import Parts, application
from lineshaft_coordinator.server.tls import fingerprint, server_context
from lineshaft_coordinator.server.upkeep import Upkeep
from lineshaft_coordinator.settings import CoordinatorSettings
from lineshaft_coordinator.store.errors import StoreDamagedError, UnreadableRecordError
from lineshaft_coordinator.store.sqlite import SqliteStore
from lineshaft_coordinator.training_runs.models import ModelLimits
from lineshaft_coordinator.training_runs.server import TrainingRuns
from lineshaft_protocol.errors import LineshaftError
from lineshaft_protocol.stream_frames import FRAME_BYTES_MAX
from lineshaft_runtime.connection import Limits
from lineshaft_runtime.serving import Address, Server
from lineshaft_runtime.stopping import stop_on_signals

logger = logging.getLogger(__name__)

LOOK_HEARTBEATS = 3
"""After so many heartbeats it is looked again at the machines of jobs, for their records."""
CONTROL_FRAME_BYTES = 4 * 1024 * 1024
CHUNK_FRAME_BYTES = FRAME_BYTES_MAX + 1024


class HomeNotWritableError(LineshaftError):
    """The folder for programs of this machine cannot be written."""

    def __init__(self, home: Path, reason: str) -> None:
        super().__init__(
            f"cannot write in {home}: {reason}; set LINESHAFT_HOME to a folder that the user of "
            "the coordinator may write"
        )
        self.home, self.reason = home, reason


async def serve(settings: CoordinatorSettings) -> None:
    """Run a coordinator until SIGTERM or SIGINT.

    Raises:
        InsecureListenError: It should listen to the network without TLS.
        AddressInUseError: Another process listens there.
        StoreError: The data folder cannot be used.
        HomeNotWritableError: The URL and the local token cannot be kept.
        ObjectStoreError: The object store cannot be used.
    """
    if not is_loopback(settings.host) and settings.tls_certificate is None:
        raise InsecureListenError(settings.host)
    store = SqliteStore(settings.data)
    epoch = await store.open()
    try:
        blobs, mover = await open_blobs(settings)
        try:
            daemon = Daemon(
                store,
                blobs,
                SecretBox(settings.data),
                epoch=epoch,
                settings=settings.core,
                porch=Porch(settings.data / "blobs" / "porch")
                if settings.hands_over_files
                else None,
                mover=mover,
            )
        except (CorruptJournalError, UnreadableRecordError) as error:
            detail = f"its records cannot be replayed ({str(error).splitlines()[0]})"
            raise StoreDamagedError(settings.data / "lineshaft.sqlite", detail) from error
        jobs = daemon.core.shop.ledger.jobs
        keep_s = settings.keep_finished_s
        upkeep = Upkeep(store, blobs, daemon.room, jobs, keep_finished_s=keep_s, mover=mover)
        recorder = _recorder(settings, daemon, has_past=epoch > 1)
        daemon.taps.append(recorder.tap)
        async with announcing(
            settings.notices, store, blobs, data=settings.data, keep_s=keep_s
        ) as announcer:
            if announcer is not None:
                daemon.taps.append(announcer.on_commit)
            async with moving(mover):
                await _run(settings, daemon, blobs, upkeep, announcer, recorder)
    finally:
        await store.close()


def _recorder(settings: CoordinatorSettings, daemon: Daemon, *, has_past: bool) -> Recorder:
    shop = daemon.core.shop
    return Recorder(
        settings.data,
        shop.ledger,
        has_past=has_past,
        gauges=Gauges(shop.fleet),
        look_s=LOOK_HEARTBEATS * settings.core.heartbeat_s,
    )


def _training(
    settings: CoordinatorSettings,
    daemon: Daemon,
    blobs: BlobStore,
    actions: DaemonActions,
    recorder: Recorder,
) -> TrainingServer:
    machine = machine_of(recorder)
    return TrainingServer(settings.training, settings.data, daemon, blobs, actions, machine=machine)


async def _run(
    settings: CoordinatorSettings,
    daemon: Daemon,
    blobs: BlobStore,
    upkeep: Upkeep,
    announcer: Announcer | None,
    recorder: Recorder,
) -> None:
    actions = DaemonActions(settings.data, daemon, upkeep)
    training = _training(settings, daemon, blobs, actions, recorder)
    runs = TrainingRuns(
        settings.data,
        daemon.questions,
        daemon.job_source,
        daemon.feeds,
        actions.cancel,
        limits=ModelLimits(settings.blob_bytes_max, settings.models_bytes_max),
    )
    parts = Parts(daemon, blobs, actions, training, runs, announcer, recorder)
    server = _make_server(settings, parts)
    # Before anybody is told where we are: who knows may have us stop at once, and that in order.
    with stop_on_signals() as stopping:
        await server.start()
        _announce(settings, server.port)
        training.reach_at(settings.host, server.port, is_tls=settings.tls_certificate is not None)
        tidying = asyncio.create_task(upkeep.run())
        pump = asyncio.create_task(daemon.run())
        recording = asyncio.create_task(recorder.run())
        stop = asyncio.create_task(stopping.wait())
        trainings = asyncio.create_task(training.run())
        watching = asyncio.create_task(_watch(settings, daemon))
        tasks = (tidying, pump, trainings, watching, stop)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if stop.done():
                actions.obstacle = "stopping"
                daemon.stop_placing()
                # Answers that go on for ever end here; WebSockets would with the server.
                for hub in (daemon.feeds, runs.hub):
                    hub.close("the coordinator stops; it keeps all jobs")
                training.close()
        finally:
            await server.close("the coordinator stops; it keeps all jobs")
            await runs.close()
            for task in (*tasks, recording):
                task.cancel()
            results = await asyncio.gather(*tasks, recording, return_exceptions=True)
    _raise_first(results)
    logger.info("stopped")


async def _watch(settings: CoordinatorSettings, daemon: Daemon) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(watch_lag(daemon.meter.lags.observe))
        if settings.tls_certificate is not None:
            group.create_task(watch_certificate(settings.tls_certificate))


def _raise_first(results: Iterable[object]) -> None:
    for result in results:
        if isinstance(result, Exception):
            raise result


def _make_server(settings: CoordinatorSettings, parts: Parts) -> Server:
    try:
        tokens = Tokens(settings.data, local_token(settings.home))
    except OSError as error:
        raise HomeNotWritableError(settings.home, error.strerror or str(error)) from error
    certificate = settings.tls_certificate
    tls = None if certificate is None else server_context(certificate, settings.tls_key)
    gate = Gate(tokens, parts.daemon.sessions, is_loopback=is_loopback(settings.host))
    return Server(
        application(settings, parts, tokens, gate),
        gate.accept,
        address=Address(host=settings.host, port=settings.port, ssl=tls),
        connection_limits=Limits(
            text_bytes=CONTROL_FRAME_BYTES,
            binary_bytes=CHUNK_FRAME_BYTES,
            ping_interval_s=10.0,
            ping_timeout_s=20.0,
        ),
    )


def _announce(settings: CoordinatorSettings, port: int) -> None:
    """Tell programs on this machine where we are, and by which certificate to know us."""
    scheme = "ws" if settings.tls_certificate is None else "wss"
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104
    url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
    whereabouts = {"url": url, "data": str(settings.data.absolute())}
    if settings.tls_certificate is not None:
        whereabouts["certificate_sha256"] = fingerprint(settings.tls_certificate)
    write_private(settings.home / "coordinator.json", json.dumps(whereabouts) + "\n")
    if settings.port_file is not None:
        write_private(settings.port_file, f"{port}\n")
    logger.info("coordinator ready", extra={"url": url, "data": str(settings.data)})
