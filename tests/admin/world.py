"""One of everything that the API tells about, and a server that a whole module shares."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from fastapi import APIRouter
from sqlalchemy import text

from admin.app import create_app
from admin.settings import AdminSettings
from db import alerts, dispatch, jobs, lines, pauses, tokens, windows, workers
from db.session import transaction
from rl.config import Release
from rl.protocol import QUEUES
from rl.windows import parse
from tests.conftest_database import empty
from tests.db.judged import GATE, candidate, decide, line_with, to_decide
from tests.db.trained import HELD_OUT, add_line, add_version, evaluate, release, run_config
from tests.gateway.doubles import served
from tests.tasks import rows

HOUR = "2025-01-15T10:00"


@dataclass(frozen=True)
class Api:
    """A server, with clients: without a token, with a viewer's, with an operator's."""

    url: str
    nobody: httpx.Client
    viewer: httpx.Client
    operator: httpx.Client
    operator_token: str

    def post(self, path: str, status: int = 200, **body: Any) -> dict[str, Any]:
        """What the operator is answered."""
        answer = self.operator.post(f"/api/admin/{path}", json=body)
        assert answer.status_code == status, answer.text
        found: dict[str, Any] = answer.json()
        assert found["success"] is (status == 200)
        return found

    def get(self, path: str, **params: Any) -> dict[str, Any]:
        """What the viewer is answered."""
        answer = self.viewer.get(f"/api/admin/{path}", params=params)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found


@contextmanager
def serving(*routers: APIRouter, **variables: str) -> Iterator[Api]:
    """A server on empty tables, with settings that no variable of this shell changes, and further routes."""
    with transaction() as session:
        empty(session)
        session.execute(text("truncate rlfleet.tokens, rlfleet.audit restart identity cascade"))
        given = {role: tokens.create(session, name, role, "a test") for role, name in NAMES.items()}
    with pytest.MonkeyPatch.context() as patch:
        for field in AdminSettings.model_fields.values():
            patch.delenv(str(field.validation_alias), raising=False)
        settings = AdminSettings.model_validate({"RLFLEET_ADMIN_RATE": "100000"} | variables)
        app = create_app(settings)
        for router in routers:
            app.include_router(router)
        with (
            served(app, proxy_headers=False) as url,
            _client(url) as nobody,
            _client(url, given["viewer"]) as viewer,
            _client(url, given["operator"]) as operator,
        ):
            yield Api(url, nobody, viewer, operator, given["operator"])


NAMES: dict[tokens.Role, str] = {"viewer": "vera", "operator": "otto"}


def _client(url: str, token: str | None = None) -> httpx.Client:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=30)


def populate() -> int:
    """Fill the tables: ``V0`` is stable, ``V1`` waits for approval, a run goes on. The id of a job that is dead."""
    line_with(Release(**GATE, share=40, approval=True))
    assert decide(to_decide(candidate()))["approval"] == "waiting"
    with transaction() as session:
        line = lines.named(session, "main")
        dead = dispatch.request(session, dispatch.Spec("collect", line.id, {"window": HOUR}, {}, "collect"))
        session.execute(
            text("update rlfleet.jobs set state = 'dead', error = 'no such file' where id = :id"), {"id": dead}
        )
        windows.ensure(session, line.id, parse(HOUR), state="closed")
        alerts.raise_alert(session, "queue_old", "gpu", {"queue": "gpu", "due": 3})
        alerts.raise_alert(session, "worker_silent", "w1", {"worker": "w1"})
        session.execute(text("update rlfleet.alerts set sent_at = now() where subject = 'w1'"))
        other = add_line(session, "other")
        base = add_version(session, other, state="ready")
        release(session, base)
        evaluate(session, base, 40, 100)
        evaluate(session, base, 1, 1, HELD_OUT)
        lines.start_run(session, other.id, run_config(rounds=3), base.id)
    claimed = dispatch_one("score")
    assert jobs.claim(claimed, "a test", 60) is not None
    pauses.pause("evaluate", "no device is free")
    workers.announce("w2@here", QUEUES, 2, "cpu", 1)
    return dead


def dispatch_one(kind: str, line: str = "main", **inputs: object) -> int:
    """The id of a job that is due."""
    with transaction() as session:
        line_id = lines.named(session, line).id
        return dispatch.request(session, dispatch.Spec(kind, line_id, {"window": HOUR} | inputs, {}, "score"))


def empty_but_tokens() -> None:
    """Take every row away but those of the tokens."""
    with transaction() as session:
        kept = session.execute(text("select to_jsonb(t) from rlfleet.tokens t")).scalars().all()
        empty(session)
        for one in kept:
            session.execute(text(RESTORE), {"one": json.dumps(one)})
        session.execute(text("select setval(pg_get_serial_sequence('rlfleet.tokens', 'id'), 100)"))


RESTORE = "insert into rlfleet.tokens select * from jsonb_populate_record(null::rlfleet.tokens, cast(:one as jsonb))"


def audited() -> list[tuple[str, str, str, str]]:
    """Actor, action, subject and outcome of every row of the audit, the oldest first."""
    return [tuple(row) for row in rows.rows("select actor, action, subject, outcome from rlfleet.audit order by id")]
