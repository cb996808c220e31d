"""What is told of a request that is not as the OpenAPI document says."""

from __future__ import annotations

from typing import Any

import pytest

from tests.admin.world import Api, audited

JSON = {"content-type": "application/json"}
TRIGGER, DEPLOY, PAUSE = "training/trigger", "deploy", "pauses/train/pause"


@pytest.mark.parametrize(
    ("path", "body", "error", "remedy"),
    [
        (TRIGGER, {"batchSize": "many"}, "batchSize cannot be 'many'", "Input should be a valid integer"),
        (TRIGGER, {"batchSize": 0}, "batchSize cannot be 0", "Input should be greater than or equal to 1"),
        (TRIGGER, {"batchSize": [[1]]}, "batchSize cannot be a list", "Input should be a valid integer"),
        (TRIGGER, {"batch": 7}, "batch is no field of this request", "leave it out"),
        (TRIGGER, [], "body cannot be a list", "Input should be a valid dictionary"),
        (TRIGGER, {"batchSize": "x" * 500}, f"batchSize cannot be '{'x' * 79}...", "Input should be a valid integer"),
        (DEPLOY, {}, "modelVersion is left out", "send it"),
        (DEPLOY, {"modelVersion": "a b"}, "modelVersion cannot be 'a b'", "1 to 200 letters, digits and"),
        (DEPLOY, {"modelVersion": "rlf_1_secret\n"}, "modelVersion cannot be <hidden>", "1 to 200 letters"),
        (DEPLOY, {"modelVersion": "v1.0.0", "rlf_1_secret": 1}, "<hidden> is no field of this request", "leave it out"),
        (DEPLOY + "?line=A", {"modelVersion": "v1.0.0"}, "line cannot be 'A'", "1 to 64 of the characters a-z"),
        (PAUSE, {"reason": " "}, "reason cannot be ' '", "a text that is not blank"),
        (PAUSE, {"reason": "x" * 501}, f"reason cannot be '{'x' * 79}...", "String should have at most 500 characters"),
        ("jobs/0/cancel", {}, "job_id cannot be '0'", "Input should be greater than or equal to 1"),
    ],
)
def test_the_field_the_value_and_what_may_be_are_named(api: Api, path: str, body: Any, error: str, remedy: str) -> None:
    answer = api.operator.post(f"/api/admin/{path}", json=body)
    found = answer.json()
    assert (answer.status_code, found["success"], found["error"]) == (422, False, error)
    assert found["remedy"].startswith(remedy)
    assert found["remedy"].endswith("/api/admin/openapi.json says what can be asked for")
    assert audited() == []


@pytest.mark.parametrize(
    ("content", "headers", "error"),
    [
        (b"{", JSON, "body is no JSON at character 1: Expecting property name enclosed in double quotes"),
        (b'{"reason": "\xff"}', JSON, "body cannot be read as JSON"),
        (b"[" * 30_000, JSON, "body cannot be read as JSON"),
        (b'{"batchSize": ' + b"9" * 50_000 + b"}", JSON, "body cannot be read as JSON"),
        (b'{"modelVersion": "v1.0.0"}', {"content-type": "text/plain"}, "body is not sent as JSON"),
        (b"", JSON, "body is left out"),
    ],
)
def test_a_body_that_is_no_json_is_told_so(api: Api, content: bytes, headers: dict[str, str], error: str) -> None:
    answer = api.operator.post(f"/api/admin/{DEPLOY}", content=content, headers=headers)
    found = answer.json()
    assert (answer.status_code, found["success"], found["error"]) == (422, False, error)
    assert "send" in found["remedy"]


def test_a_window_that_cannot_be_is_told_in_words(api: Api) -> None:
    found = api.viewer.get("/api/admin/windows/yesterday").json()
    assert found["error"] == "window cannot be 'yesterday'"
    assert found["remedy"].startswith("an hour like 2025-01-15T10:00 (UTC)")


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "nothing", 404), ("PUT", "deploy", 405)])
def test_what_there_is_not_has_a_remedy_too(api: Api, method: str, path: str, status: int) -> None:
    answer = api.operator.request(method, f"/api/admin/{path}")
    assert answer.status_code == status
    assert answer.json()["remedy"] == "/api/admin/openapi.json says what can be asked for"
