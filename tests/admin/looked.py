"""A line with all that pages show: groups with tokens and scores, versions with verdicts, releases, and a run.

Two windows: of ``HOUR`` the version ``V1`` learned by GRPO, ``NEXT`` was never frozen. Texts of agents try to be
markup.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from admin.access import COOKIE
from admin.app import create_app
from admin.settings import AdminSettings
from db import calls, datasets, dispatch, lines, releases, trajectories, versions, windows
from db.calls import NewCall
from db.session import transaction
from db.tables import Decision, Line, Version
from rl.config import LineConfig
from rl.records import Call, Message, Quarantined, Trajectory
from rl.scoring import ScoreRow
from rl.windows import parse
from tests.admin.conftest import signed_in, token
from tests.conftest_database import empty, released
from tests.db import chains
from tests.gateway.doubles import served

V0, V1, V2 = (f"babylon-agent-v1.0.{number}" for number in range(3))
HOUR, NEXT = "2025-01-15T10:00", "2025-01-15T11:00"
SCORES = {"a1": 1.0, "a2": 0.0, "a3": 0.5, "b1": 0.25, "b2": 0.75}
EVIL = "<script>alert('said')</script>"
GRPO = {"objective": "grpo", "optimizer": {"learning_rate": 0.001}}
AT = datetime(2025, 1, 15, 10, 5, tzinfo=UTC)
SYSTEM, FIRST, SECOND = [11, 12, 13], [21, 22], [31, 32, 33]


def episode(name: str, model: str = V0, *, turns: int = 2) -> Trajectory:
    """Two turns; the second continues the first, so that its prompt holds what was said there."""
    told = [Message(role="system", content="You trade."), Message(role="user", content=f"go {EVIL}")]
    first = Message(
        role="assistant",
        content=f"I say {name} {EVIL}",
        reasoning_content=f"because {EVIL}",
        tool_calls=[{"id": "t1", "type": "function", "function": {"name": "buy", "arguments": f'{{"n": "{EVIL}"}}'}}],
    )
    answer = Message(role="tool", content="bought 3", tool_call_id="t1")
    last = Message(role="assistant", content="done")
    spoken = [
        _call(name, 0, model, told, first, SYSTEM, FIRST),
        _call(name, 1, model, [*told, first, answer], last, [*SYSTEM, *FIRST, 14], SECOND),
    ]
    return Trajectory(
        trajectory_id=name,
        scenario_id=f"s/{name[0]}",
        agent_id=f"agent-{name}",
        started_at=AT,
        ended_at=AT,
        reward=SCORES.get(name, 0.0),
        calls=spoken[:turns],
        metadata={"success": SCORES.get(name, 0.0) == 1.0},
    )


def _call(
    name: str, turn: int, model: str, sent: Sequence[Message], said: Message, prompt: list[int], spoken: list[int]
) -> Call:
    ours = model.startswith("babylon-agent")
    return Call(
        call_id=f"c-{name}-{turn}",
        turn=turn,
        model=model,
        messages=list(sent),
        response=said,
        prompt_token_ids=prompt if ours else None,
        token_ids=spoken if ours else None,
        logprobs=[-0.25] * len(spoken) if ours else None,
        temperature=1.0,
        finish_reason="stop",
    )


def add_window(session: Session, line: Line, name: str, found: Sequence[Trajectory], state: str = "scored") -> int:
    """A window with those trajectories and their calls."""
    window = windows.ensure(session, line.id, parse(name), state=state)
    trajectories.insert_trajectories(session, line.id, window, "jsonl:///logs", found)
    for one in found:
        about = one.trajectory_id
        calls.insert(session, [NewCall.of(call, trajectory_id=about, line="main", agent_id="") for call in one.calls])
    return window


def fill(session: Session) -> None:
    """Everything; ``V1`` is stable, ``V0`` was before, ``V2`` waits for a person's word."""
    config = LineConfig(base_model="random-qwen3", validation=chains.VALIDATION)
    lines.put(session, "main", config)
    line = lines.named(session, "main")
    first = chains.add_version(session, line)
    chains.judge(session, first, 4, {"A": (5, 10), "B": (5, 10)})
    released(session, line.id, first.id, 40, "the first")
    window = add_window(session, line, HOUR, [episode(name) for name in SCORES])
    about = {"judge": "gpt-4o-mini", "cost": 0.125, "explanation": f"fine {EVIL}", "rubric_hash": "r" * 64}
    rows = [ScoreRow(name, "judge", "7", f"h-{name}", score, **about).row() for name, score in SCORES.items()]
    trajectories.insert_scores(session, rows)
    bad = [Quarantined(source="f", row=str(n), field="reward", reason=f"no number {EVIL}") for n in range(2)]
    trajectories.insert_quarantine(session, line.id, window, bad)
    second = learned(session, line, window, first)
    chains.judge(session, second, 7, {"A": (8, 10), "B": (7, 10)})
    released(session, line.id, second.id, 100, "better")
    add_window(session, line, NEXT, [episode("z1", "gpt-4o", turns=1)])
    waiting(session, line, second)


def learned(session: Session, line: Line, window: int, parent: Version) -> Version:
    """``V1``: GRPO on the window's groups; the trainer left ``b2`` out because it was too long."""
    spec = dispatch.Spec("train", line.id, {"windows": [HOUR]}, GRPO, "gpu")
    job_id = dispatch.request(session, spec)
    found = trajectories.of_windows(session, [window])
    datasets.freeze(session, line.id, job_id, [window], found, {"windows": [HOUR], "config": GRPO, "left_out": 0})
    long = "longer than the context"
    made = versions.add(
        session,
        line=line,
        prefix=lines.prefix_of(line),
        job_id=job_id,
        fence=1,
        checkpoints=[versions.NewCheckpoint(7, "adapter", "/adapter", "/base", "f" * 64, {"loss": 0.5})],
        parent_id=parent.id,
        base_model="random-qwen3",
        manifest={"rows": {"read": 5, "used": 2, "skipped": {long: 1}, "named": {long: ["b2"]}}},
    )
    versions.set_state(session, [made.id], "ready", "set by a test")
    session.execute(chains.SUCCEEDED, {"id": job_id})
    windows.move(session, window, "trained")
    return made


def waiting(session: Session, line: Line, stable: Version) -> None:
    """``V2``, whose release a person must approve."""
    third = chains.add_version(session, line, (9,), parent=stable, state="candidate")
    chains.judge(session, third, 9, {"A": (9, 10), "B": (8, 10)})
    config = {"release": {"approval": True, "strategy": "immediate"}}
    job_id = dispatch.request(session, dispatch.Spec("decide", line.id, {"candidate": third.name}, config, "score"))
    session.add(
        Decision(
            line_id=line.id,
            job_id=job_id,
            fence=1,
            version_id=third.id,
            stable_id=stable.id,
            policy="paired-margin",
            released=False,
            reason="P(better) = 0.9000",
            evidence={"probability": 0.9, "would_change": "fewer right answers", "counts": {}, "environments": []},
            approval="waiting",
        )
    )
    session.flush()


@dataclass
class Site:
    """A server on a filled database, and what a viewer and an operator see of it."""

    url: str
    viewer: httpx.Client
    operator: httpx.Client

    def page(self, path: str, status: int = 200) -> Seen:
        answer = self.viewer.get(path)
        assert answer.status_code == status, answer.text
        return seen(answer.text)


@contextmanager
def site(patch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Serve what ``fill`` makes."""
    with transaction() as session:
        empty(session)
        session.execute(text("truncate rlfleet.tokens, rlfleet.audit restart identity cascade"))
        fill(session)
    for field in AdminSettings.model_fields.values():
        patch.delenv(str(field.validation_alias), raising=False)
    with served(create_app(AdminSettings(RLFLEET_ADMIN_RATE="1000")), proxy_headers=False) as url, ExitStack() as stack:
        made = []
        for name, role in (("vera", "viewer"), ("otto", "operator")):
            cookie = f"{COOKIE}={signed_in(token(name, role))}"  # type: ignore[arg-type]
            headers = {"Cookie": cookie, "Sec-Fetch-Site": "same-origin"}
            made.append(stack.enter_context(httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=30)))
        yield Site(url, *made)


@dataclass
class Seen:
    """A page: ``text`` in reading order with single spaces, ``tags`` with their attributes, ``rows`` of its tables."""

    text: str
    tags: list[tuple[str, dict[str, str]]]
    rows: list[list[str]]

    def hrefs(self) -> list[str]:
        return [attributes["href"] for name, attributes in self.tags if name == "a"]

    def row(self, begins: str) -> list[str]:
        """The one row whose first cell begins so."""
        (found,) = [row for row in self.rows if row and row[0].startswith(begins)]
        return found

    def field(self, name: str) -> str:
        """The value of the first input of that name."""
        return next(one["value"] for tag, one in self.tags if tag == "input" and one.get("name") == name)

    def count(self, name: str, **wanted: str) -> int:
        """How many tags have these attributes; ``cls`` is ``class``."""
        asked = {("class" if key == "cls" else key): value for key, value in wanted.items()}
        return sum(tag == name and asked.items() <= attributes.items() for tag, attributes in self.tags)


def seen(markup: str) -> Seen:
    """The page, parsed by the standard library's parser."""
    parser = _Parser()
    parser.feed(markup)
    rows = [[" ".join(cell.split()) for cell in row] for row in parser.rows]
    return Seen(" ".join("".join(parser.words).split()), parser.tags, rows)


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.rows: list[list[str]] = []
        self.is_in_row = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag == "tr":
            self.rows.append([])
            self.is_in_row = True
        elif tag in ("td", "th") and self.rows:
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == "tr":
            self.is_in_row = False
        if tag not in ("a", "code", "em", "small", "span", "strong"):
            self.words.append(" ")

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if self.is_in_row and self.rows[-1]:
            self.rows[-1][-1] += data


def stable_of(session: Session) -> tuple[str, int]:
    """The stable version of the line and its share."""
    (one,) = releases.live(session, "main")
    return one.version, one.share


def version_state(name: str) -> Any:
    with transaction() as session:
        return session.scalars(select(Version.state).where(Version.name == name)).one()
