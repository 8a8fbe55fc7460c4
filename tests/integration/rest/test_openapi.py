"""The OpenAPI document: every real route is in it, and real answers are as it says."""

import re
from pathlib import Path
from typing import Any, cast

import httpx
from jsonschema import Draft202012Validator
from starlette.routing import Route
from tests.e2e.farm import until

from lineshaft import Client
from lineshaft_coordinator.server.openapi import document

TRAINING = """
from lineshaft import run
print("hello")
run.log({"loss": 0.5}, step=1)
open("m.bin", "w").write("weights")
run.checkpoint("m.bin", step=1)
"""


async def test_the_document_has_every_route_and_no_other(routes: list[Route]) -> None:
    real = {
        (method.lower(), route.path)
        for route in routes
        if route.path.startswith("/api/v1/")
        for method in (route.methods or {"GET"})
        if method != "HEAD"
    }
    paths = cast("dict[str, dict[str, Any]]", document()["paths"])

    assert {(method, path) for path, methods in paths.items() for method in methods} == real
    names = [each["operationId"] for methods in paths.values() for each in methods.values()]
    assert len(names) == len(set(names))


class Book:
    """The document that a coordinator serves."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http
        self.document: dict[str, Any] = http.get("/api/v1/openapi.json").json()

    def check(self, path: str, params: dict[str, str], method: str = "get") -> Any:
        """Ask, and hold the answer against its schema."""
        asked = re.sub(r"\{(\w+)\}", lambda found: params[found.group(1)], path)
        answer = self._http.request(method, asked)
        responses = self.document["paths"][path][method]["responses"]
        content = responses[str(answer.status_code)]["content"]
        kind = answer.headers["content-type"].partition(";")[0]
        if kind == "application/json":
            schema = {**content[kind]["schema"], "components": self.document["components"]}
            Draft202012Validator(schema).validate(answer.json())
            return answer.json()
        assert kind in content
        return answer.content


def test_real_answers_are_as_the_document_says(
    http: httpx.Client, client: Client, tmp_path: Path
) -> None:
    (tmp_path / "train.py").write_text(TRAINING)
    job = client.run("train.py", files=[tmp_path / "train.py"])
    job.result(60)
    book, one = Book(http), {"job_id": job.id, "run": job.id}
    base = "/api/v1/jobs/{job_id}"
    until(lambda: http.get(f"/api/v1/runs/{job.id}").status_code == 200)

    assert book.check("/api/v1/openapi.json", {})["openapi"] == "3.1.0"
    assert book.check("/api/v1/jobs", {})[0]["job_id"]
    assert book.check("/api/v1/workers", {})
    assert book.check("/api/v1/me", {})["role"] == "admin"
    assert book.check("/api/v1/runs", {})
    assert book.check(f"{base}/logs", one)["pieces"]
    assert book.check(f"{base}/story", one)
    assert book.check(f"{base}/events", one)
    file_id = book.check(f"{base}/files", one)[0]["file_id"]
    whole = one | {"file_id": file_id}
    assert book.check(f"{base}/files/{{file_id}}", whole) == b"weights"
    assert book.check(f"{base}/files/{{file_id}}/ticket", whole, "post")["url"]
    for path in ("", "/why"):
        assert book.check(base + path, one)["job_id"] == job.id
    for path in ("/api/v1/info", "/api/v1/runs/{run}", "/api/v1/runs/{run}/metrics"):
        assert book.check(path, one)
    for verb in ("cancel", "pause", "resume"):
        assert book.check(f"{base}/{verb}", one, "post")["status_before"] == "succeeded"
    assert "nobody" in book.check(base, {"job_id": "nobody"})["error"]


def test_the_document_is_open_and_says_what_needs_a_token(stranger: httpx.Client) -> None:
    found = stranger.get("/api/v1/openapi.json").json()["paths"]

    for path, methods in found.items():
        if "{ticket}" in path or "admin" in path:
            continue
        for method, operation in methods.items():
            address = re.sub(r"\{\w+\}", "x", path)
            status = stranger.request(method, address).status_code
            assert (status == 401) == bool(operation["security"]), address


def test_schemas_refuse_what_is_not_an_answer(http: httpx.Client) -> None:
    components = http.get("/api/v1/openapi.json").json()["components"]
    schema = {"$ref": "#/components/schemas/JobAnswer", "components": components}

    assert list(Draft202012Validator(schema).iter_errors({"job_id": 3}))
