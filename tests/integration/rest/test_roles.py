"""Who may have which route: every role at every route of the coordinator's port."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Route
from tests.e2e.farm import Farm, until
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from lineshaft import Client
from lineshaft.errors import AccessDeniedError
from lineshaft_coordinator.server.admission import Gate, Tokens
from lineshaft_coordinator.server.roles import PERMISSIONS, TokenRole

JOB, RUN = "/api/v1/jobs/{job_id}", "/api/v1/runs/{run}"
SEED_RUN = "/api/experiments/{experiment}/runs/{run}"
TRAINING, REPORTED = "/api/training", "/api/training/runs/{run_id}"

OPEN = """
GET /
GET /assets/{name:path}
GET /livez
GET /readyz
GET /health
GET /info
GET /metrics
GET /api/v1/openapi.json
GET /api/v1/downloads/{ticket}
"""
"""No token is looked at: on loopback, all of them. A ticket is a token of its own."""

LOOK = f"""
GET /api/v1/me
GET /api/v1/info
GET /api/v1/workers
GET /api/v1/jobs
GET {JOB}
GET {JOB}/why
GET {JOB}/story
GET {JOB}/events
GET {JOB}/live
GET {JOB}/files
GET /api/v1/arrays/{{job_id}}
GET /api/v1/runs
GET {RUN}
GET {RUN}/metrics
GET {RUN}/histograms
GET /api/v1/compare
GET /api/experiments
GET /api/experiments/{{experiment}}/metadata
GET /api/experiments/{{experiment}}/runs
GET /api/experiments/{{experiment}}/stats
GET {SEED_RUN}/metrics
GET {SEED_RUN}/config
GET {SEED_RUN}/metadata
GET {SEED_RUN}/artifacts
GET /api/run/{{experiment}}/{{run}}/stream/vectors
GET /api/stats
GET /api/config
GET /api/metrics
GET /api/system/info
GET /api/system/gpus
GET /api/system/metrics
GET /api/system/metrics/history
GET /api/training/runs
GET {REPORTED}
GET {REPORTED}/metrics
GET {TRAINING}/health
GET {TRAINING}/queue
GET {TRAINING}/analytics/summary
GET {TRAINING}/analytics/compare
GET {TRAINING}/status/{{job_id}}
GET {TRAINING}/{{job_id}}/analytics
GET {TRAINING}/metrics/{{job_id}}
"""
"""For viewers, clients and admins."""

CLIENTS = f"""
GET {JOB}/logs
GET {JOB}/files/{{file_id}}
POST {JOB}/files/{{file_id}}/ticket
POST {JOB}/cancel
POST {JOB}/pause
POST {JOB}/freeze
POST {JOB}/resume
POST {JOB}/retry
POST /api/v1/arrays/{{job_id}}/cancel
GET {RUN}/text
GET {RUN}/artifacts/content
GET {SEED_RUN}/log/stream
GET {SEED_RUN}/artifacts/content
PATCH {SEED_RUN}/metadata
PATCH /api/experiments/{{experiment}}/metadata
GET {JOB}/files/{{file_id}}/preview
GET /workers
GET /summary
GET /download
POST /upload
GET /api/checkpoints/latest
GET /api/models
POST /api/models
GET /api/models/{{model_id}}
DELETE /api/models/{{model_id}}
GET /api/models/{{model_id}}/versions
POST /api/models/{{model_id}}/versions
GET /api/models/{{model_id}}/versions/{{number:int}}
GET /api/models/{{model_id}}/versions/{{number:int}}/download
GET /api/notebooks/{{notebook_id}}/checkpoints
POST /api/notebooks/{{notebook_id}}/checkpoints
GET /api/notebooks/{{notebook_id}}/checkpoints/best
POST /api/training/runs
DELETE {REPORTED}
POST {REPORTED}/stop
POST {REPORTED}/complete
POST {REPORTED}/metrics
GET {REPORTED}/logs
POST {REPORTED}/logs
GET {TRAINING}/{{job_id}}/errors
GET {TRAINING}/logs/{{job_id}}
GET {TRAINING}/checkpoints/{{job_id}}
GET {TRAINING}/{{job_id}}/download/model
GET {TRAINING}/{{job_id}}/download/logs
POST {TRAINING}/pause/{{job_id}}
POST {TRAINING}/resume/{{job_id}}
POST {TRAINING}/cancel/{{job_id}}
POST {TRAINING}/{{job_id}}/force-start
POST {TRAINING}/reconnect
POST {TRAINING}/execute
"""
"""For clients and admins: what changes something, and what shows output or contents."""

ADMINS = "GET /api/admin/stats"
LOCAL = "POST /api/v1/admin/backup"
PREFLIGHT = "OPTIONS /api/training/{rest:path}"
"""Asked by browsers, without a token; what they may do is refused to foreign pages there."""

ANYBODY = frozenset({None, "worker", "viewer", "client", "admin", "local"})
VIEWERS = frozenset({"viewer", "client", "admin", "local"})
WHO: dict[str, frozenset[str | None]] = {
    **dict.fromkeys(OPEN.split("\n")[1:-1], ANYBODY),
    **dict.fromkeys(LOOK.split("\n")[1:-1], VIEWERS),
    **dict.fromkeys(CLIENTS.split("\n")[1:-1], VIEWERS - {"viewer"}),
    ADMINS: frozenset({"admin", "local"}),
    LOCAL: frozenset({"local"}),
}
"""Who may have each route. A new route is to be added to one of the lists above."""
DOORS_LOOK = {
    "/api/v1/jobs/{job_id}/live",
    "/api/training/runs/{run_id}/stream",
    "/ws/training/{job_id}",
}
CANARY = "s3cr3t-4f2a"
SPILLING = f"""
import sys
from lineshaft import run
print("{CANARY}")
print("{CANARY}", file=sys.stderr)
run.log({{"loss": 0.5}}, step=1)
open("m.bin", "w").write("{CANARY}")
run.checkpoint("m.bin", step=1)
raise ValueError("{CANARY}")
"""


@pytest.fixture
def port(whole: tuple[Starlette, Gate], tmp_path: Path) -> dict[str | None, httpx.AsyncClient]:
    """Asks with a token of each role, by role; None: without one."""
    tokens = Tokens(tmp_path / "data", "local")
    secrets: dict[str | None, str] = {role: tokens.create(role)[1] for role in PERMISSIONS}
    transport = httpx.ASGITransport(app=whole[0])

    def asker(secret: str | None) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {secret}"} if secret is not None else {}
        return httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers)

    return {role: asker(secret) for role, secret in secrets.items()} | {
        "local": asker("local"),
        None: asker(None),
    }


def keys_of(routes: list[Route]) -> set[str]:
    methods = {(route.path, method) for route in routes for method in route.methods or {"GET"}}
    return {f"{method} {path}" for path, method in methods if method != "HEAD"}


def test_somebody_has_decided_who_may_have_each_route(routes: list[Route]) -> None:
    undecided = keys_of(routes) - set(WHO) - {PREFLIGHT}

    assert not undecided, f"say in {Path(__file__).name} who may have them: {sorted(undecided)}"
    assert set(WHO) <= keys_of(routes), "routes that are no more"


@pytest.mark.parametrize("role", [*PERMISSIONS, "local", None])
async def test_a_role_gets_what_is_decided_and_nothing_else(
    port: dict[str | None, httpx.AsyncClient], role: str | None
) -> None:
    wrong: list[str] = []
    for key, who in WHO.items():
        method, path = key.split(" ")
        address = re.sub(r"\{\w+(:\w+)?\}", "7", path)
        async with asyncio.timeout(20):
            answer = await port[role].request(method, address)
        refused = 401 if role is None else 403
        is_in = answer.status_code not in (401, 403)
        if is_in != (role in who) or not (is_in or answer.status_code == refused):
            wrong.append(f"{key}: {answer.status_code} {answer.text[:200]}")
        elif role == "viewer" and not is_in:
            assert "for a viewer" in answer.text, key
            assert key in (ADMINS, LOCAL) or "--role client" in answer.text, key
    assert not wrong, f"{role}: {wrong}"


def test_a_viewer_comes_in_at_no_door_that_does_not_say_so(whole: tuple[Starlette, Gate]) -> None:
    doors = whole[1].doors

    assert {door.path for door in doors if door.takes == "look"} == DOORS_LOOK
    assert len(doors) > len(DOORS_LOOK)


@pytest.fixture
def viewer(plant: Farm, tokens: Tokens) -> Iterator[httpx.Client]:
    """Asks with a viewer's token."""
    headers = {"Authorization": f"Bearer {tokens.create('viewer')[1]}"}
    with httpx.Client(
        base_url=f"http://127.0.0.1:{plant.port}", headers=headers, timeout=30
    ) as made:
        yield made


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("/v1/client", "--role client"),
        ("/v1/worker", "--role worker"),
        ("/ws", "--role client"),
        ("/api/v1/jobs/x/live?kinds=log", "--role client"),
    ],
)
def test_a_viewer_opens_no_session(plant: Farm, tokens: Tokens, path: str, word: str) -> None:
    headers = {"Authorization": f"Bearer {tokens.create('viewer')[1]}"}

    with pytest.raises(InvalidStatus) as refused:
        connect(f"ws://127.0.0.1:{plant.port}{path}", additional_headers=headers)

    assert refused.value.response.status_code == 403
    assert word in refused.value.response.body.decode()


def test_a_client_with_a_viewers_token_hears_what_it_takes(plant: Farm, tokens: Tokens) -> None:
    with pytest.raises(AccessDeniedError, match=r"for a viewer.*--role client"):
        Client(plant.url, token=tokens.create("viewer")[1], connect_timeout=10)


def test_what_a_job_printed_and_raised_is_told_to_no_viewer(
    plant: Farm, client: Client, http: httpx.Client, viewer: httpx.Client, tmp_path: Path
) -> None:
    (tmp_path / "spill.py").write_text(SPILLING)
    job = client.run("spill.py", files=[tmp_path / "spill.py"], retries=1)
    until(lambda: job.status == "failed")
    until(lambda: http.get(f"/api/v1/runs/{job.id}").status_code == 200)
    assert CANARY in http.get(f"/api/v1/jobs/{job.id}/why").text
    assert CANARY in http.get(f"/api/v1/jobs/{job.id}/live?since=0.0&kinds=log,metrics").text

    known = {"{job_id}": job.id, "{run}": job.id, "{run_id}": job.id, "{experiment}": "spill.py"}
    paths = [key.removeprefix("GET ") for key in LOOK.split("\n")[1:-1]]
    for name, value in known.items():
        paths = [path.replace(name, value) for path in paths if "arrays" not in path]
    answers = {path: viewer.get(path) for path in paths if not path.endswith("/compare")}
    answers["all"] = viewer.get(f"/api/v1/jobs/{job.id}/live?since=0.0")
    answers["runs"] = viewer.get(f"/api/v1/compare?runs={job.id}")

    assert {
        path: each.status_code for path, each in answers.items() if each.status_code != 200
    } == {}
    assert [path for path, each in answers.items() if CANARY in each.text] == []
    reasons = " ".join(viewer.get(f"/api/v1/jobs/{job.id}/why").json()["reasons"])
    assert "it failed: exception ValueError; its text is not shown to viewers" in reasons
    events = viewer.get(f"/api/v1/jobs/{job.id}/events").json()
    printed = [each["body"] for each in events if each["kind"] == "log"]
    assert len(printed) > 2
    assert not any(printed)
    assert any(each["body"].get("metrics") == {"loss": 0.5} for each in events)
    headers = {"Authorization": viewer.headers["Authorization"]}
    for door, least in (
        (f"/api/v1/jobs/{job.id}/live?since=0.0", 3),
        (f"/api/training/runs/{job.id}/stream", 1),
        (f"/ws/training/{job.id}", 2),
    ):
        with connect(f"ws://127.0.0.1:{plant.port}{door}", additional_headers=headers) as socket:
            messages = [str(each) for each in socket]
        assert len(messages) >= least, door
        assert CANARY not in "".join(messages), door
    told = viewer.get(f"/api/training/status/{job.id}").json()
    assert (told["status"], told["error_message"]) == ("failed", "not shown to viewers")


def test_where_records_lie_is_told_to_no_viewer(
    plant: Farm, client: Client, http: httpx.Client, viewer: httpx.Client, tmp_path: Path
) -> None:
    (tmp_path / "fine.py").write_text("from lineshaft import run\nrun.log({'loss': 0.5})\n")
    job = client.run("fine.py", files=[tmp_path / "fine.py"])
    path = f"/api/v1/runs/{job.id}"
    until(lambda: http.get(path).json().get("status") == "FINISHED")
    (file,) = plant.folder.rglob(f"{job.id}/metrics.parquet")
    file.write_bytes(b"no Parquet")

    told, seen = http.get(path), viewer.get(path)
    missing = viewer.get("/api/v1/runs/nobody")

    assert (told.status_code, str(file) in told.text) == (500, True)
    assert (seen.status_code, str(plant.folder) in seen.text) == (500, False)
    assert (missing.status_code, missing.json()) == (404, {"error": "there is no run 'nobody'"})


def test_a_forged_wish_of_a_viewer_is_refused_and_changes_nothing(
    client: Client, viewer: httpx.Client
) -> None:
    job = client.submit(pow, 2, 3, tags=["nowhere"], queue_timeout=600)
    base = f"/api/v1/jobs/{job.id}"
    until(lambda: viewer.get(base).status_code == 200)

    answers = [viewer.post(f"{base}/{verb}") for verb in ("cancel", "pause", "freeze", "retry")]

    assert {answer.status_code for answer in answers} == {403}
    assert viewer.get(base).json()["status"] == "queued"
    job.cancel()


@pytest.mark.parametrize("role", list(PERMISSIONS))
def test_everybody_is_told_who_they_are(plant: Farm, tokens: Tokens, role: TokenRole) -> None:
    token_id, secret = tokens.create(role)
    address = f"http://127.0.0.1:{plant.port}/api/v1/me?token={secret}"

    answer = httpx.get(address)

    if role == "worker":
        assert answer.status_code == 403
    else:
        permissions = list(PERMISSIONS[role])
        assert answer.json() == {"role": role, "token": token_id, "permissions": permissions}
