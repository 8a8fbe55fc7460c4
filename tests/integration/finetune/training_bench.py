"""A real coordinator with a training server, a real worker, and a client as seed 001's page is."""

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from tests.e2e.farm import Farm, until
from websockets.sync.client import ClientConnection, connect

TRAINER = '''
"""Does what its configuration says, so that a test can be anywhere in a training."""
import json, os, sys, time
from pathlib import Path
from lineshaft import run

def wait_for(path):
    while path and not Path(path).exists() and not run.should_pause():
        time.sleep(0.005)

def main(config, dataset_path=None):
    first = 1
    if (saved := run.latest_checkpoint()) is not None:
        first = saved.step + 1
    print(f"begins at step {first}", flush=True)
    if config.get("environ"):
        names = ("JOB_ID", "JOB_USER_ID", "JOB_TOKEN", "METRICS_API_URL", "PYTHONUNBUFFERED")
        told = {name: os.environ.get(name) for name in names}
        told["is_leader"] = os.getpid() == os.getsid(0) or os.getppid() == os.getsid(0)
        print(json.dumps(told), flush=True)
    if dataset_path:
        print("dataset", Path(dataset_path).read_text().strip(), flush=True)
    if config.get("child"):
        import subprocess
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        print("child", child.pid, flush=True)
    steps = config.get("steps", 4)
    run.log({"total_epochs": config.get("num_epochs", 2)})
    for step in range(first, steps + 1):
        epoch = (step - 1) * config.get("num_epochs", 2) // steps
        metrics = {"loss": 1.0 / step, "lr": 0.01, "epoch": epoch, "grad_norm": 0.5,
                   "samples_per_second": 10.0 + step, "gpu_util": 0.5, "memory_mb": 2048}
        if config.get("odd") and step == steps:
            metrics |= {"loss": float("nan"), "grad_norm": float("inf")}
        run.log(metrics, step=step)
        if step % 2 == 0:
            run.log({"eval_loss": 2.0 / step, "epoch": epoch}, step=step)
        run.progress(step, steps, phase="train")
        if step in config.get("checkpoints", ()):
            save(step, epoch)
        if step == config.get("wait_at"):
            wait_for(config.get("gate"))
        if run.should_pause():
            save(step, epoch)
            run.paused()
        time.sleep(config.get("step_seconds", 0))
    if config.get("fail"):
        print("ERROR: step 17 went wrong", file=sys.stderr)
        print("ERROR: step 18 went wrong", file=sys.stderr, flush=True)
        stumble(config["fail"])
    Path("outputs").mkdir()
    Path("outputs/model.bin").write_bytes(b"weights" * config.get("weights", 1000))
    return {"loss": 1.0 / steps}

def stumble(why):
    raise RuntimeError(why)

def save(step, epoch):
    Path("state").mkdir(exist_ok=True)
    Path("state/weights.bin").write_bytes(bytes([step % 256]) * 3000)
    run.checkpoint("state", step=step, metadata={"epoch": epoch})
'''


@dataclass
class Town:
    """A farm, and what a client of its training server needs."""

    farm: Farm
    folder: Path

    @property
    def token(self) -> str:
        return (self.farm.home / "token").read_text().strip()

    @property
    def files(self) -> Path:
        return self.farm.folder / "data" / "training"

    def ask(self, method: str, path: str, *, status: int = 200, **options: Any) -> Any:
        response = self.response(method, path, **options)
        assert response.status_code == status, response.text
        return response.json()

    def response(self, method: str, path: str, **options: Any) -> httpx.Response:
        url = f"http://127.0.0.1:{self.farm.port}{path}"
        headers = {"Authorization": f"Bearer {self.token}"} | options.pop("headers", {})
        return httpx.request(method, url, headers=headers, timeout=60, **options)

    def execute(self, *, status: int = 200, job_id: str | None = None, **config: Any) -> str:
        name = job_id or f"job-{uuid.uuid4()}"
        body = {"execution_id": name, "user_id": "ada", "name": "a training"}
        dataset = {k: config.pop(k) for k in ("dataset_content", "dataset_path") if k in config}
        body |= {"config": {"batch_size": 4, **config}, **dataset}
        answer = self.ask("POST", "/api/training/execute", json=body, status=status)
        if status == 200:
            assert answer == {
                "job_id": name,
                "status": "queued",
                "message": f"Training job {name} is queued",
            }
        return name

    def status(self, job_id: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.ask("GET", f"/api/training/status/{job_id}")
        return answer

    def until_status(self, job_id: str, *wanted: str) -> dict[str, Any]:
        last: list[dict[str, Any]] = []

        def is_there() -> bool:
            last[:] = [self.status(job_id)]
            return last[0]["status"] in wanted

        until(is_there, what=f"{job_id} is {wanted}; it was {last}")
        return last[0]

    def until_step(self, job_id: str, step: int) -> None:
        until(lambda: self.status(job_id)["current_step"] >= step, what=f"{job_id} is at {step}")

    def gate(self) -> Path:
        return self.folder / f"gate-{uuid.uuid4()}"

    def socket(self, job_id: str, *, token: str | None = None, **options: Any) -> ClientConnection:
        url = f"ws://127.0.0.1:{self.farm.port}/ws/training/{job_id}?token={token or self.token}"
        return connect(url, **options)

    def log(self, job_id: str) -> list[str]:
        lines: list[str] = self.ask("GET", f"/api/training/logs/{job_id}?limit=1000")["logs"]
        return lines


@contextmanager
def town(
    folder: Path,
    *flags: str,
    trainer: Path | None = None,
    environ: dict[str, str] | None = None,
    **settings: object,
) -> Iterator[Town]:
    """A coordinator and a worker with two slots; everything is gone afterwards."""
    made = Farm(folder)
    made.home.mkdir(parents=True)
    if trainer is None:
        trainer = folder / "trainer"
        trainer.mkdir()
        (trainer / "train.py").write_text(TRAINER)
    chosen: dict[str, object] = {
        "trainer": str(trainer),
        "entry_point": "train.py:main",
        "execute_per_minute": 0,
        "requests_per_minute": 0,
        "files_per_minute": 0,
    }
    chosen |= settings
    lines = [f"{name} = {json.dumps(value)}" for name, value in chosen.items() if value is not None]
    (made.home / "lineshaft.toml").write_text("\n".join(["[training]", *lines]) + "\n")
    try:
        made.start_coordinator(*flags)
        made.start_worker("w1", "--slots", "2", environ=environ)
        with made.client() as client:
            made.until_ready(client)
        yield Town(made, folder)
    finally:
        made.close()


def messages(socket: ClientConnection, *, until_message: Callable[[dict[str, Any]], bool]) -> Any:
    """What a socket says, up to and with the message that is meant, each strictly read."""
    heard: list[dict[str, Any]] = []
    while True:
        heard.append(read(socket.recv(30)))
        if until_message(heard[-1]):
            return heard


def read(text: str | bytes) -> dict[str, Any]:
    """Read JSON as strictly as a browser: no NaN, no Infinity."""

    def refuse(constant: str) -> object:
        raise ValueError(f"{constant} is no JSON")

    data: dict[str, Any] = json.loads(text, parse_constant=refuse)
    return data


def is_complete(message: dict[str, Any]) -> bool:
    """Whether it is the last one."""
    return message.get("complete") is True
