"""What is kept of attempts for the next daemon, and for no longer."""

from pathlib import Path

from lineshaft_protocol.ids import JobId
from lineshaft_protocol.jobs import JobSpec, Payload
from lineshaft_protocol.worker_messages import Assign
from lineshaft_worker.core.io import AttemptKey
from lineshaft_worker.daemon.assigns import Assigns


def written(folder: Path, job_id: str) -> AttemptKey:
    job = JobSpec(job_id=job_id, kind="plan", payload=Payload(inline=""), name="kept")
    key = AttemptKey(JobId(job_id), 1)
    Assigns(folder).write(key, Assign(job=job, attempt=1, epoch=1))
    return key


def test_what_ended_while_no_daemon_was_there_leaves_no_file(tmp_path: Path) -> None:
    running, ended = written(tmp_path, "running"), written(tmp_path, "ended")

    after = Assigns(tmp_path)
    after.keep_only([running])

    assert after.read(running).job.name == "kept"
    assert after.read(ended).job.name is None
    after.remove(running)
    assert list(tmp_path.iterdir()) == []
