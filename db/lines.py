"""Lines and runs: what they are configured to do."""

from __future__ import annotations

import re

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from db.tables import Line, Run, Version
from rl.config import LineConfig, RunConfig
from rl.errors import InvalidInput

DEFAULT_LINE, DEFAULT_PREFIX = "main", "babylon-agent"
SHORT = re.compile(r"v[0-9]+\.[0-9]+\.[0-9]+")
"""A version's name within its line."""


def put(session: Session, name: str, config: LineConfig) -> int:
    """Create the line, or give it this config. Returns its id.

    Raises:
        InvalidInput: another line names its versions with the same prefix.
    """
    prefix = _prefix(name, config)
    for other in session.scalars(select(Line).where(Line.name != name)):
        # As stored: a line whose config is no longer understood must not hold up this one.
        if (other.config.get("version_prefix") or _default_prefix(other.name)) == prefix:
            remedy = f"line {other.name!r} names its versions so; set another version_prefix for line {name!r}"
            raise InvalidInput("line.version_prefix", prefix, remedy)
    values = {"name": name, "config": config.model_dump(mode="json")}
    statement = insert(Line).values(values).on_conflict_do_update(index_elements=["name"], set_=values)
    return int(session.execute(statement.returning(Line.id)).scalar_one())


def lock(session: Session, line_id: int) -> None:
    """Keep everybody else from changing the line's releases until the transaction ends."""
    session.execute(select(Line.id).where(Line.id == line_id).with_for_update())


def named(session: Session, name: str) -> Line:
    """The line called ``name``.

    Raises:
        InvalidInput: there is none; the message lists those there are.
    """
    line = session.scalar(select(Line).where(Line.name == name))
    if line is None:
        known = ", ".join(session.scalars(select(Line.name).order_by(Line.name))) or "none yet"
        raise InvalidInput("line", name, f"no such line; known lines: {known}")
    return line


def sources(session: Session) -> dict[str, str | None]:
    """The URL of each line's source by the line's name, as stored."""
    return {line.name: line.config.get("source") for line in session.scalars(select(Line))}


def config_of(line: Line) -> LineConfig:
    """The line's config, parsed."""
    return LineConfig.model_validate(line.config)


def prefix_of(line: Line) -> str:
    """What the names of the line's versions start with."""
    return _prefix(line.name, config_of(line))


def full_name(session: Session, version: str, line: str | None = None) -> str:
    """The whole name of ``version``; one such as ``v1.0.3`` is of ``line``, or of main. There may be no such version.

    Raises:
        InvalidInput: there is no such line, or the version is of another one than was said.
    """
    is_short = SHORT.fullmatch(version) is not None
    said = DEFAULT_LINE if line is None and is_short else line
    if said is None:
        return version
    prefix = prefix_of(named(session, said))
    name = f"{prefix}-{version}" if is_short else version
    its = session.scalar(select(Line.name).join(Version, Version.line_id == Line.id).where(Version.name == name))
    if its not in (None, said):
        raise InvalidInput("line", said, f"{name} is a version of line {its}: name that line, or another version")
    return name


def _prefix(name: str, config: LineConfig) -> str:
    return config.version_prefix or _default_prefix(name)


def _default_prefix(name: str) -> str:
    return DEFAULT_PREFIX if name == DEFAULT_LINE else name


def start_run(session: Session, line_id: int, config: RunConfig, base_version_id: int) -> int:
    """The id of the run called ``config.name``, created if it is not there.

    Raises:
        InvalidInput: a run of that name exists with another config.
    """
    values = {
        "line_id": line_id,
        "name": config.name,
        "config": config.model_dump(mode="json"),
        "base_version_id": base_version_id,
    }
    session.execute(insert(Run).values(values).on_conflict_do_nothing(index_elements=["name"]))
    run = session.scalars(select(Run).where(Run.name == config.name)).one()
    if run.config != values["config"] or run.line_id != line_id:
        raise InvalidInput("run.name", config.name, "a run of this name exists with another config; choose a new name")
    return run.id


def end_run(session: Session, run_id: int, state: str, reason: str) -> None:
    """The run is over: ``finished`` or ``stopped``, with the reason in words."""
    ended = {"state": state, "reason": reason, "finished_at": func.now()}
    session.execute(update(Run).where(Run.id == run_id, Run.state.in_(("running", "paused"))).values(ended))


def pause_run(session: Session, run_id: int, reason: str) -> bool:
    """The run opens no further round until a person says so. False when it was not running."""
    statement = update(Run).where(Run.id == run_id, Run.state == "running").values(state="paused", reason=reason)
    return session.execute(statement.returning(Run.id)).one_or_none() is not None


def go_on(session: Session, run_id: int, *, patient_from: int | None = None, finishing: bool = False) -> bool:
    """A run that is paused or running goes on; see ``Run`` for what is set. False when it has ended."""
    values: dict[str, object] = {"state": "running", "reason": None, "finishing": finishing}
    values |= {} if patient_from is None else {"patient_from": patient_from}
    open_ones = (Run.id == run_id, Run.state.in_(("running", "paused")))
    return session.execute(update(Run).where(*open_ones).values(values).returning(Run.id)).one_or_none() is not None


def run_named(session: Session, name: str) -> Run:
    """The run called ``name``.

    Raises:
        InvalidInput: there is none; the message lists the newest.
    """
    run = session.scalar(select(Run).where(Run.name == name))
    if run is None:
        known = ", ".join(session.scalars(select(Run.name).order_by(Run.id.desc()).limit(5))) or "none yet"
        raise InvalidInput("run", name, f"no such run; the newest are: {known}")
    return run
