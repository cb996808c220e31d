"""What the API refuses is told in the words of the request: its own fields, and what it can do about them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from db import lines
from db.session import transaction
from rl.config import Release
from tests.admin.world import Api, audited
from tests.db.judged import GATE, V0, V1, candidate, line_with
from tests.db.trained import add_line, add_version
from tests.tasks import rows

Before = Callable[[], object]


def stable_alone() -> None:
    line_with(Release(**GATE, share=40))


def unevaluated() -> None:
    stable_alone()
    with transaction() as session:
        add_version(session, lines.named(session, "main"))


def evaluated() -> None:
    stable_alone()
    candidate()


def rejected() -> None:
    evaluated()
    rows.rows("update rlfleet.versions set state = 'rejected', reason = 'no' where name = :name returning 1", name=V1)


def nothing_stable() -> None:
    with transaction() as session:
        add_version(session, add_line(session), state="ready")


DEPLOY: dict[str, Any] = {"modelVersion": V1}
REFUSALS: list[tuple[Before, str, dict[str, Any], str, str]] = [
    (unevaluated, "deploy", DEPLOY, f"modelVersion cannot be '{V1}'", 'send "unevaluated": true'),
    (rejected, "deploy", DEPLOY, f"modelVersion cannot be '{V1}'", "it was rejected (no)"),
    (
        nothing_stable,
        "deploy",
        {"modelVersion": V0, "strategy": "gradual", "unevaluated": True},
        f"modelVersion cannot be '{V0}'",
        'send "strategy": "immediate"',
    ),
    (
        evaluated,
        "deploy",
        DEPLOY | {"strategy": "gradual", "rolloutPercentage": 0},
        "rolloutPercentage cannot be 0",
        "give 1 to 100 per cent",
    ),
    (
        evaluated,
        "deploy",
        DEPLOY | {"strategy": "test", "rolloutPercentage": 100},
        "rolloutPercentage cannot be 100",
        "give 1 to 99 per cent",
    ),
    (evaluated, "deploy?line=nosuch", DEPLOY, "line cannot be 'nosuch'", "known lines: main"),
    (stable_alone, "rollback", {}, "targetVersion cannot be left out", "no other version was stable before"),
    (evaluated, "rollback", {"targetVersion": V1}, f"targetVersion cannot be '{V1}'", "it was never stable"),
    (nothing_stable, "rollback", {}, "line cannot be 'main'", "it has no released version"),
    (evaluated, "lines/main/pin", {"version": V1, "reason": "x"}, f"version cannot be '{V1}'", "only a ready version"),
    (evaluated, f"versions/{V0}/reject", {"reason": "x"}, f"version cannot be '{V0}'", "it is released"),
    (evaluated, f"approvals/{V1}/approve", {}, f"version cannot be '{V1}'", "no decision about it waits"),
    (evaluated, f"approvals/{V1}/refuse", {"reason": "x"}, f"version cannot be '{V1}'", "no decision about it waits"),
]


@pytest.mark.parametrize(("before", "path", "body", "error", "remedy"), REFUSALS)
def test_a_refusal_names_what_the_request_has(
    api: Api, before: Before, path: str, body: dict[str, Any], error: str, remedy: str
) -> None:
    before()
    refused = api.post(path, 400, **body)
    assert (refused["error"], remedy in refused["remedy"]) == (error, True), refused
    assert error.split(maxsplit=1)[0] in fields(api, path)
    # A whole command of the shell may be named; an option of one is nothing that a request has.
    assert "--" not in re.sub(r"`rlfleet [^`]*`", "", refused["remedy"])
    assert [outcome for *_, outcome in audited()] == ["refused"]


def fields(api: Api, path: str) -> set[str]:
    """What a POST to the path can be sent: in the body, the path and the query."""
    document = api.nobody.get("/api/admin/openapi.json").json()
    asked = f"/api/admin/{path.partition('?')[0]}"
    (operation,) = (
        one["post"]
        for name, one in document["paths"].items()
        if "post" in one and re.fullmatch(re.sub(r"{\w+}", "[^/]+", name), asked)
    )
    found = {one["name"] for one in operation.get("parameters", ())}
    for content in operation.get("requestBody", {}).get("content", {}).values():
        found |= set(document["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]["properties"])
    return found


@pytest.mark.parametrize("version", ["v9.9.9", "babylon-agent-v9.9.9"])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("deploy", {"modelVersion": "{}"}),
        ("rollback", {"targetVersion": "{}"}),
        ("lines/main/pin", {"version": "{}", "reason": "x"}),
        ("versions/{}/reject", {"reason": "x"}),
        ("approvals/{}/approve", {}),
        ("approvals/{}/refuse", {"reason": "x"}),
    ],
)
def test_a_version_that_is_not_there_is_told_so_everywhere(
    api: Api, version: str, path: str, body: dict[str, str]
) -> None:
    stable_alone()
    sent = {name: value.format(version) for name, value in body.items()}
    refused = api.post(path.format(version), 404, **sent)
    assert refused["error"] == "there is no version babylon-agent-v9.9.9"
    assert refused["remedy"]
