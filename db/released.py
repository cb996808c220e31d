"""What is released now: the live releases of each line, and what a person said about its traffic."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.orm import Session, aliased

from db.tables import Checkpoint, Control, Line, Release, Version


@dataclass(frozen=True)
class LiveRelease:
    """A release that holds: ``share`` per cent of the line's agents at ``stage``, ``canary`` or ``stable``."""

    stage: str
    share: int
    version_id: int
    version: str
    number: int
    kind: str
    uri: str
    base_uri: str


@dataclass(frozen=True)
class NamedVersion:
    """A version as the gateway needs it. ``uri`` is its checkpoint: an adapter on ``base_uri``, or full weights."""

    version_id: int
    name: str
    state: str
    reason: str | None
    line: str
    base_model: str
    kind: str
    uri: str
    base_uri: str = ""


WHOLE = 100
PINNED = "pinned"


@dataclass(frozen=True)
class Answering:
    """``share`` per cent of a line's agents get ``version``, as ``stage`` says; in ``killed`` and ``base`` none is."""

    stage: str
    version: str
    share: int


@dataclass(frozen=True)
class LineReleases:
    """A line with its live releases, the canary first. ``base_model`` is the model it grows from.

    ``killed`` and ``pinned`` are a person's: no version of ours for anybody, or that one version for everybody.
    """

    line: str
    base_model: str
    releases: tuple[LiveRelease, ...]
    killed: bool = False
    pinned: NamedVersion | None = None

    @property
    def answering(self) -> tuple[Answering, ...]:
        """Who answers the line's agents, 100 per cent together.

        An agent below the canary's share gets the canary, so that its agents come out of the stable version's.
        """
        if self.killed:
            return (Answering("killed", "", WHOLE),)
        if self.pinned is not None and self.pinned.state == "ready":
            return (Answering(PINNED, self.pinned.name, WHOLE),)
        by_stage = {one.stage: one for one in self.releases}
        stable, canary = by_stage.get("stable"), by_stage.get("canary")
        tried = canary.share if canary else 0
        usual = max(0, stable.share - tried) if stable else 0
        rest = WHOLE - usual - tried
        return (
            *([Answering("stable", stable.version, usual)] if stable else []),
            *([Answering("canary", canary.version, tried)] if canary else []),
            *([Answering("base", "", rest)] if rest else []),
        )


BASE_MODEL = Line.config["base_model"].as_string().label("base_model")

_pinned, _pinned_at = aliased(Version), aliased(Checkpoint)

LIVE = (
    select(
        Line.name.label("line"),
        BASE_MODEL,
        Release.stage,
        Release.share,
        Version.id.label("version_id"),
        Version.name.label("version"),
        Version.number,
        Checkpoint.kind,
        Checkpoint.uri,
        Checkpoint.base_uri,
        Control.killed,
        _pinned.id.label("pinned_id"),
        _pinned.name.label("pinned"),
        _pinned.state.label("pinned_state"),
        _pinned.reason.label("pinned_reason"),
        _pinned_at.kind.label("pinned_kind"),
        _pinned_at.uri.label("pinned_uri"),
        _pinned_at.base_uri.label("pinned_base_uri"),
    )
    .select_from(Line)
    .outerjoin(Release, (Release.line_id == Line.id) & Release.ended_at.is_(None))
    .outerjoin(Version, Version.id == Release.version_id)
    .outerjoin(Checkpoint, Checkpoint.id == Version.checkpoint_id)
    .outerjoin(Control, Control.line_id == Line.id)
    .outerjoin(_pinned, _pinned.id == Control.pinned_id)
    .outerjoin(_pinned_at, _pinned_at.id == _pinned.checkpoint_id)
    .order_by(Line.name, Release.stage)
)


def by_line(session: Session) -> dict[str, LineReleases]:
    """Every line by name, those without a live release included."""
    return lines_of(session.execute(LIVE))


def lines_of(rows: Iterable[Row[Any]]) -> dict[str, LineReleases]:
    """The lines of the rows of ``LIVE``, by name."""
    found: dict[str, LineReleases] = {}
    for row in rows:
        releases = found[row.line].releases if row.line in found else ()
        if row.stage is not None:
            releases = (*releases, _live_release(row))
        found[row.line] = LineReleases(row.line, row.base_model or "", releases, bool(row.killed), _pin(row))
    return found


def live(session: Session, line_name: str) -> list[LiveRelease]:
    """The line's live releases, the canary first; empty for a line that has none or does not exist."""
    rows = session.execute(LIVE.where(Line.name == line_name, Release.stage.is_not(None)))
    return [_live_release(row) for row in rows]


def version_named(session: Session, name: str) -> NamedVersion | None:
    """The version called ``name`` in whatever state it is, or None."""
    row = session.execute(
        select(
            Version.id,
            Version.name,
            Version.state,
            Version.reason,
            Line.name,
            BASE_MODEL,
            Checkpoint.kind,
            Checkpoint.uri,
            Checkpoint.base_uri,
        )
        .join(Line, Line.id == Version.line_id)
        .join(Checkpoint, Checkpoint.id == Version.checkpoint_id)
        .where(Version.name == name)
    ).one_or_none()
    return NamedVersion(*row) if row else None


def _live_release(row: Row[tuple[object, ...]]) -> LiveRelease:
    return LiveRelease(
        stage=row.stage,
        share=row.share,
        version_id=row.version_id,
        version=row.version,
        number=row.number,
        kind=row.kind,
        uri=row.uri,
        base_uri=row.base_uri,
    )


def _pin(row: Row[tuple[object, ...]]) -> NamedVersion | None:
    if row.pinned is None:
        return None
    return NamedVersion(
        version_id=row.pinned_id,
        name=row.pinned,
        state=row.pinned_state,
        reason=row.pinned_reason,
        line=row.line,
        base_model=row.base_model or "",
        kind=row.pinned_kind,
        uri=row.pinned_uri,
        base_uri=row.pinned_base_uri,
    )
