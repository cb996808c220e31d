"""Every endpoint of the OpenAPI document: who may ask, and that what it answers is as documented."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from tests.admin.world import HOUR, Api, populate, serving
from tests.db.judged import V0, V1

OPEN = {"/live", "/ready"}
OPERATORS = {"/api/admin/audit", "/api/admin/tokens"}
UNTYPED = {"/metrics"}
Operation = tuple[str, str]


@pytest.fixture(scope="module")
def api(database: str, broker: object) -> Iterator[Api]:
    with serving() as made:
        populate()
        yield made


@pytest.fixture(scope="module")
def document(api: Api) -> dict[str, Any]:
    answer = api.nobody.get("/api/admin/openapi.json")
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


def operations(document: dict[str, Any]) -> list[Operation]:
    return [(path, method.upper()) for path, methods in document["paths"].items() for method in methods]


def filled(path: str) -> str:
    """The path with values that lead to something."""
    values = {
        "{line}": "main",
        "{window}": HOUR,
        "{job_id}": "1",
        "{kind}": "evaluate",
        "{version}": V0,
        "{run}": "demo",
    }
    for name, value in values.items():
        path = path.replace(name, value)
    return path


def ask(client: httpx.Client, path: str, method: str) -> httpx.Response:
    wanted = {"version": V0} if path == "/api/admin/evaluations" else {}
    return client.request(method, filled(path), params=wanted, json={} if method == "POST" else None)


def conforms(document: dict[str, Any], path: str, method: str, answer: httpx.Response) -> None:
    """The answer's status is documented, and its body is of the documented shape."""
    documented = document["paths"][path][method.lower()]["responses"]
    assert str(answer.status_code) in documented, (path, method, answer.text)
    shape = documented[str(answer.status_code)]["content"]["application/json"]["schema"]
    errors = list(Draft202012Validator({**shape, "components": document["components"]}).iter_errors(answer.json()))
    assert errors == [], (path, method, answer.status_code)


def test_who_has_no_token_gets_401_from_every_endpoint(api: Api, document: dict[str, Any]) -> None:
    closed = [one for one in operations(document) if one[0] not in OPEN]
    assert len(closed) >= 36
    for path, method in closed:
        answer = ask(api.nobody, path, method)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer"), (path, method)
        assert answer.json()["error"] == "no token"
        conforms(document, path, method, answer)


def test_a_viewer_gets_403_from_whatever_changes_something(api: Api, document: dict[str, Any]) -> None:
    forbidden = {one for one in operations(document) if ask(api.viewer, *one).status_code == 403}
    assert forbidden == {one for one in operations(document) if one[1] == "POST" or one[0] in OPERATORS}
    for path, method in forbidden:
        conforms(document, path, method, ask(api.viewer, path, method))


def test_each_get_answers_as_documented(api: Api, document: dict[str, Any]) -> None:
    for path, method in operations(document):
        if method == "GET" and path not in UNTYPED:
            answer = ask(api.operator, path, method)
            assert answer.status_code == (503 if path == "/health" else 200), (path, answer.text)
            conforms(document, path, method, answer)


@pytest.mark.parametrize(
    "path",
    ["/api/admin/jobs/77", "/api/admin/versions/none-v1.0.0", "/api/admin/runs/none", "/api/admin/windows/run/no/0001"],
)
def test_what_is_not_there_is_404(api: Api, path: str) -> None:
    answer = api.viewer.get(path)
    assert (answer.status_code, answer.json()["success"]) == (404, False)
    assert answer.json()["error"].startswith("there is no ")
    assert answer.json()["remedy"]


@pytest.mark.parametrize(
    ("method", "path", "sent"),
    [
        ("GET", "/api/admin/jobs/9223372036854775808", {}),
        ("GET", "/api/admin/jobs/0", {}),
        ("GET", "/api/admin/jobs/" + "9" * 5000, {}),
        ("GET", "/api/admin/jobs?limit=201", {}),
        ("GET", "/api/admin/jobs?before=-1", {}),
        ("GET", "/api/admin/jobs?state=%00", {}),
        ("GET", "/api/admin/jobs?line=%00", {}),
        ("GET", "/api/admin/windows/%00", {}),
        ("GET", "/api/admin/versions/%ED%A0%80", {}),
        ("POST", "/api/admin/pauses/train/pause", {"json": {"reason": "a\0b"}}),
        ("POST", "/api/admin/pauses/train/pause", {"content": b'{"reason": "\\ud800"}'}),
        ("POST", "/api/admin/pauses/train/pause", {"content": b'{"reason": "x", "\\ud800": 1}'}),
        ("POST", "/api/admin/pauses/train/pause", {"json": {"reason": "  "}}),
        ("POST", "/api/admin/pauses/train/pause", {"json": {"reason": "x" * 501}}),
        ("POST", "/api/admin/pauses/train/pause", {"json": {"reason": 1}}),
        ("POST", "/api/admin/training/trigger", {"json": {"batchSize": 10**12}}),
        ("POST", "/api/admin/training/trigger", {"content": b'{"batchSize": 1e999}'}),
        ("POST", "/api/admin/training/trigger", {"content": b"\xff\xfe"}),
        ("POST", "/api/admin/training/trigger", {"json": []}),
        ("POST", "/api/admin/deploy", {"json": {"modelVersion": V1, "rolloutPercentage": 101}}),
        ("POST", "/api/admin/deploy", {"json": {"modelVersion": V1, "strategy": "slowly"}}),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_done(
    api: Api, document: dict[str, Any], method: str, path: str, sent: dict[str, Any]
) -> None:
    headers = {"content-type": "application/json"} if "content" in sent else {}
    answer = api.operator.request(method, path, headers=headers, **sent)
    assert answer.status_code in (400, 422), answer.text
    assert answer.json()["success"] is False


def test_a_nest_of_brackets_is_refused(api: Api) -> None:
    deep = b"[" * 20_000
    answer = api.operator.post("/api/admin/deploy", content=deep, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422)


def test_a_body_that_is_too_large_is_not_read(api: Api) -> None:
    large = api.operator.post("/api/admin/deploy", content=b"x" * (64 * 1024 + 1))
    assert (large.status_code, large.json()["remedy"]) == (413, "send at most 65536 bytes")
    streamed = api.operator.post("/api/admin/deploy", content=iter([b" " * 40_000, b" " * 40_000]))
    assert streamed.status_code == 413


def test_an_unknown_line_is_told_of_with_those_there_are(api: Api) -> None:
    for path in ("training/status", "windows", "jobs", "versions", "releases", "approvals"):
        answer = api.viewer.get(f"/api/admin/{path}", params={"line": "nobodys"})
        assert (answer.status_code, answer.json()["error"]) == (400, "line cannot be 'nobodys'")
        assert answer.json()["remedy"] == "no such line; known lines: main, other"
