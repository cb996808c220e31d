"""Releases: the only path to traffic. Which version of a line gets which share, now."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Row, func, select, text, update
from sqlalchemy.orm import Session

from db.tables import Checkpoint, Line, Release, Version
from rl.errors import InvalidInput


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
class LineReleases:
    """A line with its live releases, the canary first. ``base_model`` is the model it grows from."""

    line: str
    base_model: str
    releases: tuple[LiveRelease, ...]


@dataclass(frozen=True)
class NamedVersion:
    """A version as the gateway needs it. ``uri`` is its checkpoint: an adapter, or full weights."""

    version_id: int
    name: str
    state: str
    reason: str | None
    line: str
    base_model: str
    kind: str
    uri: str


LIVE = (
    select(
        Line.name.label("line"),
        Line.config["base_model"].as_string().label("base_model"),
        Release.stage,
        Release.share,
        Version.id.label("version_id"),
        Version.name.label("version"),
        Version.number,
        Checkpoint.kind,
        Checkpoint.uri,
        Checkpoint.base_uri,
    )
    .select_from(Line)
    .outerjoin(Release, (Release.line_id == Line.id) & Release.ended_at.is_(None))
    .outerjoin(Version, Version.id == Release.version_id)
    .outerjoin(Checkpoint, Checkpoint.id == Version.checkpoint_id)
    .order_by(Line.name, Release.stage)
)


def by_line(session: Session) -> dict[str, LineReleases]:
    """Every line by name, those without a live release included."""
    found: dict[str, LineReleases] = {}
    for row in session.execute(LIVE):
        releases = found[row.line].releases if row.line in found else ()
        if row.stage is not None:
            releases = (*releases, _live_release(row))
        found[row.line] = LineReleases(row.line, row.base_model or "", releases)
    return found


def live(session: Session, line_name: str) -> list[LiveRelease]:
    """The line's live releases, the canary first; empty for a line that has none or does not exist."""
    rows = session.execute(LIVE.where(Line.name == line_name, Release.stage.is_not(None)))
    return [_live_release(row) for row in rows]


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


def version_named(session: Session, name: str) -> NamedVersion | None:
    """The version called ``name`` in whatever state it is, or None."""
    row = session.execute(
        select(
            Version.id,
            Version.name,
            Version.state,
            Version.reason,
            Line.name,
            Line.config["base_model"].as_string(),
            Checkpoint.kind,
            Checkpoint.uri,
        )
        .join(Line, Line.id == Version.line_id)
        .join(Checkpoint, Checkpoint.id == Version.checkpoint_id)
        .where(Version.name == name)
    ).one_or_none()
    return NamedVersion(*row) if row else None


def replace_stable(
    session: Session, line_id: int, version_id: int, decision_id: int | None, share: int, reason: str
) -> int:
    """Make the version the line's stable one for ``share`` per cent of its agents. Returns the release's id.

    Does nothing when that release is live already. The row lock on the line keeps two callers in order.

    Raises:
        InvalidInput: the version is not of this line or not ``ready``, or the share is not within 0..100.
    """
    _check(session, line_id, version_id, share)
    session.execute(select(Line.id).where(Line.id == line_id).with_for_update())
    stable = (Release.line_id == line_id) & (Release.stage == "stable") & Release.ended_at.is_(None)
    current = session.scalar(select(Release).where(stable))
    if current is not None and (current.version_id, current.share) == (version_id, share):
        return current.id
    session.execute(update(Release).where(stable).values(ended_at=text("clock_timestamp()")))
    release = Release(
        line_id=line_id,
        version_id=version_id,
        decision_id=decision_id,
        stage="stable",
        share=share,
        reason=reason,
        created_at=func.clock_timestamp(),
    )
    session.add(release)
    session.flush()
    return release.id


def _check(session: Session, line_id: int, version_id: int, share: int) -> None:
    if not 0 <= share <= 100:
        raise InvalidInput("share", share, "a share is a percentage of agents, 0 to 100")
    row = session.execute(select(Version.line_id, Version.state).where(Version.id == version_id)).one_or_none()
    if row is None or row.line_id != line_id:
        raise InvalidInput("version_id", version_id, f"no such version on line {line_id}")
    if row.state != "ready":
        raise InvalidInput("version_id", version_id, f"the version is {row.state}; only a ready one can be released")
