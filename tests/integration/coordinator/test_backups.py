"""What was backed up, with or without a running coordinator, is there after a restore."""

import hashlib
import json
import shutil
import stat
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from tests.e2e.farm import Farm
from tests.e2e.nursery import run_forked
from tests.e2e.rawclient import RawClient

from lineshaft_coordinator.server.admission import Tokens
from lineshaft_protocol.blob_messages import BlobOffer, BlobStatus
from lineshaft_protocol.client_messages import Accepted, Cancel, Finished, Submit
from lineshaft_protocol.frames import encode_chunk
from lineshaft_protocol.ids import BlobId
from lineshaft_protocol.jobs import JobSpec, Payload


def run(site: Farm, *command: str | Path) -> subprocess.CompletedProcess[str]:
    return run_forked(["-m", "lineshaft_coordinator", *map(str, command)], site.environ)


def bring(client: RawClient, content: bytes) -> str:
    blob_id = BlobId(hashlib.sha256(content).hexdigest())
    client.say(BlobOffer(blob_id=blob_id, size_bytes=len(content)))
    answer = client.hear(BlobStatus)
    if isinstance(answer, BlobStatus) and not answer.is_complete:
        client.socket.send(b"".join(encode_chunk(blob_id, 0, content)))
        client.hear(BlobStatus)
    return blob_id


def spec(job_id: str, blob_id: str) -> JobSpec:
    return JobSpec(job_id=job_id, kind="function", payload=Payload(blob=blob_id, size_bytes=1))


def data_of(site: Farm) -> Path:
    return site.folder / "data"


def path_of(folder: Path, blob_id: str) -> Path:
    return folder / "blobs" / blob_id[:2] / blob_id[2:]


@pytest.fixture
def jobs(site: Farm) -> dict[str, str]:
    """A running coordinator with a live job, one that ended, and a blob of nobody."""
    site.start_coordinator()
    with RawClient(site) as client:
        blobs = {name: bring(client, name.encode() * 1000) for name in ("live", "ended", "nobody")}
        for name in ("live", "ended"):
            client.say(Submit(job=spec(name, blobs[name])))
            client.hear(Accepted)
        client.say(Cancel(job_id="ended", reason="enough"))
        client.hear(Finished)
    return blobs


@pytest.mark.parametrize("is_running", [True, False])
def test_a_backup_holds_jobs_blobs_and_tokens_and_serves_after_a_restore(
    site: Farm, jobs: dict[str, str], tmp_path: Path, is_running: bool
) -> None:
    assert site.coordinator is not None
    _, secret = Tokens(data_of(site), "").create("client")
    # Trainings that run go on with the tokens that it made for them.
    (data_of(site) / "training.key").write_text("key")
    if not is_running:
        site.coordinator.kill()

    made = run(site, "backup", tmp_path / "copy", "--data", data_of(site))
    site.coordinator.kill()
    shutil.rmtree(data_of(site))
    restored = run(site, "restore", tmp_path / "copy", "--data", data_of(site), "--json")
    checked = run(site, "check", "--data", data_of(site), "--blobs", "--json")
    site.start_coordinator()

    assert (made.returncode, made.stderr) == (0, "")
    assert "2 jobs, 1 of them live" in made.stdout
    assert restored.returncode == checked.returncode == 0, restored.stderr + checked.stderr
    assert json.loads(restored.stdout)["epoch"] > 1000
    assert json.loads(checked.stdout) == json.loads(restored.stdout)
    assert json.loads(checked.stdout)["blobs"] == 2
    assert path_of(data_of(site), jobs["live"]).read_bytes() == b"live" * 1000
    assert not path_of(data_of(site), jobs["nobody"]).exists()
    assert Tokens(data_of(site), "").grant(secret) is not None
    assert (data_of(site) / "training.key").read_text() == "key"
    with site.client() as client:
        found = {job["job_id"]: job["status"] for job in client.jobs()}  # type: ignore[index,call-overload,union-attr]
    assert found == {"live": "queued", "ended": "cancelled"}


def test_a_backup_can_be_read_by_its_owner_only(
    site: Farm, jobs: dict[str, str], tmp_path: Path
) -> None:
    del jobs
    Tokens(data_of(site), "").create("client")

    run(site, "backup", tmp_path / "copy", "--data", data_of(site))

    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "copy").rglob("*")}
    assert stat.S_IMODE((tmp_path / "copy").stat().st_mode) == 0o700
    assert modes[tmp_path / "copy" / "tokens.json"] == 0o600


def test_a_backup_never_replaces_anything(site: Farm, jobs: dict[str, str], tmp_path: Path) -> None:
    del jobs
    target = tmp_path / "copy"
    target.mkdir()
    (target / "mine").write_text("mine")

    refused = run(site, "backup", target, "--data", data_of(site))

    assert refused.returncode == 2
    assert f"{target} exists already" in refused.stderr
    assert [path.name for path in target.iterdir()] == ["mine"]


def test_a_restore_replaces_nothing(site: Farm, jobs: dict[str, str], tmp_path: Path) -> None:
    del jobs
    run(site, "backup", tmp_path / "copy", "--data", data_of(site))

    refused = run(site, "restore", tmp_path / "copy", "--data", data_of(site))

    assert refused.returncode == 2
    assert f"{data_of(site)} is not empty" in refused.stderr


@pytest.mark.parametrize("damage", ["blob", "missing blob", "database", "manifest"])
def test_a_damaged_backup_is_refused_and_nothing_is_made(
    site: Farm, jobs: dict[str, str], tmp_path: Path, damage: str
) -> None:
    copy = tmp_path / "copy"
    run(site, "backup", copy, "--data", data_of(site))
    assert path_of(copy, jobs["live"]).stat().st_nlink == 2, "linked: same bytes, same disk"
    path_of(data_of(site), jobs["live"]).unlink()
    match damage:
        case "blob":
            path_of(copy, jobs["live"]).write_bytes(b"other" * 800)
        case "missing blob":
            path_of(copy, jobs["live"]).unlink()
        case "database":
            database = copy / "lineshaft.sqlite"
            database.write_bytes(database.read_bytes().replace(b'"type":"Job', b'"type":"Jab'))
        case _:
            (copy / "backup.json").unlink()

    refused = run(site, "restore", copy, "--data", tmp_path / "new")

    assert refused.returncode == 2
    assert str(copy) in refused.stderr
    assert sorted(path.name for path in tmp_path.iterdir() if "new" in path.name) == []


def test_a_check_names_the_job_whose_blob_is_gone(site: Farm, jobs: dict[str, str]) -> None:
    assert site.coordinator is not None
    site.coordinator.terminate()
    for blob_id in jobs.values():
        path_of(data_of(site), blob_id).unlink()

    checked = run(site, "check", "--data", data_of(site))

    assert checked.returncode == 1
    first, *_ = checked.stdout.splitlines()
    assert first == f"job live needs blob {jobs['live']}, which is missing"
    assert "job ended" not in checked.stdout, "nobody will ask for its payload"


def test_a_check_finds_a_flipped_bit(site: Farm, jobs: dict[str, str]) -> None:
    assert site.coordinator is not None
    site.coordinator.terminate()
    path_of(data_of(site), jobs["live"]).write_bytes(b"lIve" * 1000)

    quick = run(site, "check", "--data", data_of(site))
    whole = run(site, "check", "--data", data_of(site), "--blobs")

    assert (quick.returncode, whole.returncode) == (0, 1)
    assert "is damaged: its bytes hash to" in whole.stdout


def test_a_check_of_a_running_coordinator_or_of_nothing_is_refused(
    site: Farm, tmp_path: Path
) -> None:
    site.start_coordinator()
    assert site.coordinator is not None

    running = run(site, "check", "--data", data_of(site))
    nothing = run(site, "check", "--data", tmp_path / "nothing")

    assert (running.returncode, nothing.returncode) == (2, 2)
    assert f"process {site.coordinator.pid}" in running.stderr
    assert f"{tmp_path / 'nothing'} holds no data" in nothing.stderr


def test_a_coordinator_of_another_folder_is_not_taken_for_ours(site: Farm, tmp_path: Path) -> None:
    other = Farm(tmp_path / "other")
    other.folder.mkdir()
    site.start_coordinator()
    try:
        other.start_coordinator()

        refused = run(other, "backup", tmp_path / "copy", "--data", data_of(site))

        assert refused.returncode == 2
        assert f"keeps its data in {data_of(other)}" in refused.stderr
        assert not (tmp_path / "copy").exists()
    finally:
        other.close()


@pytest.mark.parametrize("role", ["admin", "client", "worker", None])
def test_only_the_local_token_makes_the_coordinator_write(
    site: Farm, tmp_path: Path, role: str | None
) -> None:
    site.start_coordinator()
    secret = "none" if role is None else Tokens(data_of(site), "").create(role)[1]  # type: ignore[arg-type]
    paths = {"data": str(data_of(site)), "target": str(tmp_path / "copy")}
    request = urllib.request.Request(
        f"http://127.0.0.1:{site.port}/api/v1/admin/backup",
        json.dumps(paths).encode(),
        {"Authorization": f"Bearer {secret}"},
    )

    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(request, timeout=10)

    with refusal.value as answer:
        assert answer.code == (401 if role is None else 403)
    assert not (tmp_path / "copy").exists()


def test_a_coordinator_behind_tls_makes_a_backup_when_asked(site: Farm, tmp_path: Path) -> None:
    site.start_coordinator("--tls-self-signed")

    made = run(site, "backup", tmp_path / "copy", "--data", data_of(site))

    assert made.returncode == 0, made.stderr
    assert (tmp_path / "copy" / "tls" / "key.pem").exists()
