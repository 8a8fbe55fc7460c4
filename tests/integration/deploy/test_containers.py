import json
import re
import shlex
import subprocess
from dataclasses import dataclass, field
from typing import Any

import pytest
import yaml
from tests.integration.deploy.shop import DEPLOY, PROGRAMS, ROOT, Shop, until

from lineshaft_coordinator.__main__ import parser as coordinator_flags
from lineshaft_worker.__main__ import parser as worker_flags

FOLDER = DEPLOY / "docker"
PARSERS = {"lineshaft-coordinator": coordinator_flags, "lineshaft-worker": worker_flags}


@dataclass
class Stage:
    """One FROM of a Dockerfile and what follows it."""

    name: str
    parent: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def last(self, word: str) -> str | None:
        return next((text for step, text in reversed(self.steps) if step == word), None)


def stages() -> dict[str, Stage]:
    text = (FOLDER / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    found: dict[str, Stage] = {}
    current: Stage | None = None
    for line in filter(str.strip, joined.splitlines()):
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            parent, _, name = rest.partition(" AS ")
            current = found[name] = Stage(name, parent)
        elif current is not None:
            current.steps.append((word, rest.strip()))
    return found


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    return loaded


# --- images ---


@pytest.mark.parametrize("name", ["coordinator", "worker"])
def test_an_image_runs_its_daemon_below_tini_and_not_as_root(name: str) -> None:
    all_stages = stages()
    stage = all_stages[name]

    command = json.loads(stage.last("CMD") or "null")
    assert stage.last("USER") == "lineshaft"
    assert command[0] == f"lineshaft-{name}"
    assert json.loads(all_stages[stage.parent].last("ENTRYPOINT") or "null") == ["tini", "--"]
    PARSERS[command[0]]().parse_args(command[1:])


def test_images_hold_the_wheel_and_not_the_tree() -> None:
    all_stages = stages()

    for name in ("base", "coordinator", "worker"):
        assert all_stages[name].last("COPY") is None
        assert all_stages[name].last("ADD") is None
    for _, sources in (step for step in all_stages["wheel"].steps if step[0] == "COPY"):
        *names, _ = shlex.split(sources)
        for source in names:
            assert (ROOT / source).exists(), f"{source} is copied, but is not there"


def test_the_builder_gets_all_that_the_wheel_needs() -> None:
    """What .dockerignore lets through, what is copied, and what pyproject names are one list."""
    ignore = (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()
    let_through = {line.removeprefix("!") for line in ignore if line.startswith("!")}
    copied = {
        name
        for word, sources in stages()["wheel"].steps
        if word == "COPY"
        for name in shlex.split(sources)[:-1]
    }

    assert copied == let_through
    assert {"protocol", "runtime", "records", "coordinator", "worker", "client"} <= copied


def healthcheck() -> list[str]:
    text = stages()["coordinator"].last("HEALTHCHECK") or ""
    command: list[str] = json.loads(text[text.index("CMD") + 3 :])
    return [str(PROGRAMS / "python"), *command[1:]]


def health(shop: Shop) -> int:
    run = subprocess.run(
        healthcheck(), env=shop.environment(), capture_output=True, check=False, timeout=30
    )
    return run.returncode


@pytest.mark.parametrize("tls", [(), ("--tls-self-signed",)], ids=["plain", "tls"])
def test_the_healthcheck_knows_a_living_coordinator_from_a_dead_one(
    shop: Shop, tls: tuple[str, ...]
) -> None:
    assert health(shop) != 0
    shop.start_coordinator("--listen", "127.0.0.1:0", "--data", str(shop.data), *tls)

    alive = health(shop)
    shop.end()

    assert alive == 0
    assert health(shop) != 0


# --- compose ---


def test_compose_names_only_what_is_there() -> None:
    file = compose()
    services, targets = file["services"], stages()

    for name, service in services.items():
        build = service["build"]
        assert (FOLDER / build["context"]).resolve() == ROOT, name
        assert ROOT / build["dockerfile"] == FOLDER / "Dockerfile", name
        assert build["target"] in targets, name
        for volume in service["volumes"]:
            assert volume.split(":")[0] in file["volumes"], name
        for other, condition in service.get("depends_on", {}).items():
            assert condition == {"condition": "service_healthy"}
            assert targets[services[other]["build"]["target"]].last("HEALTHCHECK") != "NONE"
        mode = service.get("network_mode", "service:coordinator")
        assert mode.removeprefix("service:") in services, name


def test_no_two_workers_of_compose_share_a_name_or_a_folder() -> None:
    workers = [s for name, s in compose()["services"].items() if name.startswith("worker")]
    names = [worker_flags().parse_args(worker["command"][1:]).name for worker in workers]
    states = [worker["volumes"][-1].split(":")[0] for worker in workers]

    assert len(workers) == 2
    assert len(set(names)) == 2
    assert len(set(states)) == 2


def test_folders_of_compose_lie_on_volumes() -> None:
    for name, service in compose()["services"].items():
        program, *flags = service["command"]
        chosen = PARSERS[program]().parse_args(flags)
        folder = str(chosen.data if program == "lineshaft-coordinator" else chosen.state)
        mounted = [volume.split(":")[1] for volume in service["volumes"]]
        assert folder in mounted, name


def test_workers_of_compose_write_only_where_they_may() -> None:
    """Their home is the coordinator's, read-only: by default environments would be made there."""
    for name, service in compose()["services"].items():
        if not name.startswith("worker"):
            continue
        chosen = worker_flags().parse_args(service["command"][1:])
        writable = [v.split(":")[1] for v in service["volumes"] if not v.endswith(":ro")]
        for folder in (chosen.state, chosen.environments):
            assert any(str(folder).startswith(each) for each in writable), f"{name}: {folder}"


def test_the_daemons_of_compose_find_each_other(shop: Shop) -> None:
    """The commands of the file, with folders and port of this test."""
    services = compose()["services"]
    url = ""
    for name in ("coordinator", "worker-1", "worker-2"):
        program, *flags = services[name]["command"]
        own = {
            "127.0.0.1:7433": "127.0.0.1:0",
            "/var/lib/lineshaft/data": str(shop.data),
            "/var/lib/lineshaft/state": str(shop.home / name),
            "/var/lib/lineshaft/state/environments": str(shop.home / name / "environments"),
        }
        arguments = [own.get(flag, flag) for flag in flags]
        if program == "lineshaft-coordinator":
            url = shop.start_coordinator(*arguments)
            continue
        environment = dict(services[name]["environment"])
        assert environment.pop("LINESHAFT_HOME") == "/home-of-coordinator"
        assert environment.pop("LINESHAFT_URL") == "ws://127.0.0.1:7433"
        shop.start([program, *arguments], {**environment, "LINESHAFT_URL": url})

    assert until(lambda: len(shop.workers(url)) == 2)
    assert sorted(shop.workers(url)) == ["worker-1", "worker-2"]
