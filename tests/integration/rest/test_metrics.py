"""`/metrics` of a running coordinator, and what is built upon its names."""

import json
import re

import httpx
import yaml
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from tests.e2e.farm import Farm, until
from tests.meta.tree import ROOT

from lineshaft import Client
from lineshaft_protocol.version import __version__

MONITORING = ROOT / "deploy" / "monitoring"
TOLD: dict[str, set[str]] = {
    "lineshaft_attempts_total": {"cause"},
    "lineshaft_build_info": {"python", "version"},
    "lineshaft_commit_seconds": set(),
    "lineshaft_dispatch_seconds": set(),
    "lineshaft_env_build_seconds": {"hit"},
    "lineshaft_event_loop_lag_seconds": set(),
    "lineshaft_gpu_memory_bytes": set(),  # There is none here.
    "lineshaft_gpu_quarantined": {"reason"},
    "lineshaft_job_wait_seconds": set(),
    "lineshaft_jobs": {"state"},
    "lineshaft_spool_bytes": {"worker"},
    "lineshaft_stale_writes_refused_total": set(),
    "lineshaft_ws_dropped_total": set(),
}
"""Names that others build upon, and their labels."""


def scrape(client: httpx.Client) -> dict[str, Metric]:
    answer = client.get("/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    return {
        f"{name}_total" if family.type == "counter" else name: family
        for name, family in families.items()
    }


def value(families: dict[str, Metric], sample: str, **labels: str) -> float:
    found = [
        each.value
        for family in families.values()
        for each in family.samples
        if each.name == sample and each.labels == labels
    ]
    assert len(found) == 1, (sample, labels, found)
    return float(found[0])


def test_what_jobs_did_is_counted_for_scrapers_of_this_machine(
    stranger: httpx.Client, client: Client
) -> None:
    before = scrape(stranger)

    assert [client.submit(pow, 2, n).result(30) for n in range(3)] == [1, 2, 4]
    after = scrape(stranger)

    def grown(sample: str, **labels: str) -> float:
        return value(after, sample, **labels) - value(before, sample, **labels)

    assert grown("lineshaft_attempts_total", cause="succeeded") == 3
    assert grown("lineshaft_jobs_finished_total", status="succeeded") == 3
    assert grown("lineshaft_job_wait_seconds_count") == 3
    assert grown("lineshaft_commit_seconds_count") > 0
    assert grown("lineshaft_dispatch_seconds_count") > 0
    until(lambda: value(scrape(stranger), "lineshaft_event_loop_lag_seconds_count") > 0)
    workers = [value(after, "lineshaft_workers", status=each) for each in ("idle", "busy")]
    assert sum(workers) == 1
    slots = [value(after, "lineshaft_slots", state=each) for each in ("used", "free")]
    assert sum(slots) == 2
    assert value(after, "lineshaft_data_free_bytes") > 0
    info = after["lineshaft_build_info"].samples[0]
    assert info.labels["version"] == __version__
    labels = {
        name: {label for each in after[name].samples for label in each.labels} - {"le"}
        for name in TOLD
    }
    assert labels == TOLD


def test_no_number_is_told_by_job(stranger: httpx.Client, client: Client) -> None:
    job = client.submit(pow, 2, 5)
    job.result(30)

    text = stranger.get("/metrics").text

    assert job.id not in text
    allowed = {
        "cause",
        "gpu",
        "hit",
        "kind",
        "le",
        "python",
        "reason",
        "state",
        "status",
        "version",
    }
    names = {name for each in scrape(stranger).values() for s in each.samples for name in s.labels}
    assert names <= allowed | {"worker"}


def test_pages_of_other_sites_cannot_scrape(stranger: httpx.Client) -> None:
    for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}):
        assert stranger.get("/metrics", headers=headers).status_code == 403


def test_alerts_and_board_name_only_what_is_told(plant: Farm, stranger: httpx.Client) -> None:
    families = scrape(stranger)
    samples = {each.name for family in families.values() for each in family.samples}
    # Without GPUs, and without TLS, there are no samples of these.
    samples |= {"lineshaft_gpu_memory_bytes", "lineshaft_tls_certificate_expires_seconds"}
    rules = yaml.safe_load((MONITORING / "lineshaft-alerts.yml").read_text())
    board = json.loads((MONITORING / "lineshaft-board.json").read_text())
    alerts = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    drawn = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    assert len(alerts) > 5
    assert len(drawn) > 10
    known = {
        (s.name, label, text)
        for family in families.values()
        for s in family.samples
        for label, text in s.labels.items()
    }

    for expression in [*alerts, *drawn]:
        named = set(re.findall(r"\blineshaft_\w+", expression))
        assert named <= samples, expression
        for name, labels in re.findall(r"\b(lineshaft_\w+)\{([^}]*)\}", expression):
            for label, text in re.findall(r'(\w+)!?="([^"$]*)"', labels):
                assert label == "kind" or (name, label, text) in known, expression
    shown = {name for text in drawn for name in re.findall(r"\blineshaft_\w+?(?=_bucket|\b)", text)}
    assert shown >= TOLD.keys()
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    assert (MONITORING / config["rule_files"][0]).is_file()
