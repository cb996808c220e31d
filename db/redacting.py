"""A line's redaction as it is at the moment, applied to what is about to be stored or shown to a judge.

The rules come first, so that the hook, which may ask another service, is not given what they find; and again after it,
so that it can bring nothing back. Whatever goes wrong, the text is not stored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module

from pydantic import ValidationError
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from db.tables import Line
from rl.errors import InvalidRow, InvalidSettings
from rl.records import Quarantined, Trajectory
from rl.redaction import Redaction, ids, redact, redact_text, without_tokens

FIELD = "redaction.hook"
Hook = Callable[[Trajectory], Trajectory | None]


def clean(trajectory: Trajectory, redaction: Redaction) -> tuple[Trajectory, Counter[str]]:
    """The trajectory, or the part of one, as it may be stored, and how often each rule found something.

    A call whose words changed, by a rule or by the hook, has no token ids and log-probabilities.

    Raises:
        InvalidRow: the hook refused it, failed, or gave back what cannot be used.
        InvalidSettings: the hook is not there.
    """
    cleaned, found = redact(trajectory, redaction)
    if redaction.hook is None:
        return cleaned, found
    cleaned, again = redact(_hooked(cleaned, redaction.hook), redaction)
    pairs = zip(trajectory.calls, cleaned.calls, strict=True)
    calls = [without_tokens(before, after) for before, after in pairs]
    return cleaned.model_copy(update={"calls": calls}), found + again


def unused(row: Quarantined, redaction: Redaction) -> Quarantined:
    """A row that could not be used as the quarantine may keep it: without its excerpt, which is cut off anywhere."""
    if not redaction.is_set:
        return row
    said = {"field": redact_text(row.field, redaction), "reason": redact_text(row.reason, redaction), "excerpt": ""}
    return row.model_copy(update=said)


def hook_named(setting: str) -> Hook:
    """The function that ``package.module:function`` names, imported here.

    Raises:
        InvalidSettings: it is not there, cannot be imported, or cannot be called.
    """
    module, _, name = setting.partition(":")
    try:
        hook = getattr(import_module(module), name)
    except Exception as error:
        remedy = f"cannot be loaded ({type(error).__name__}); install it wherever workers and gateways run, or mend it"
        raise InvalidSettings(FIELD, setting, remedy) from error
    if not callable(hook):
        raise InvalidSettings(FIELD, setting, "is no function; name one that takes and gives a rl.records.Trajectory")
    found: Hook = hook
    return found


def _hooked(trajectory: Trajectory, setting: str) -> Trajectory:
    """What the hook gives back. Of its exceptions only the type is told: their words may quote what it was given."""
    hook = hook_named(setting)
    try:
        given = hook(trajectory.model_copy(deep=True))
    except Exception as error:
        raise InvalidRow(FIELD, setting, f"the hook {setting} raised {type(error).__name__}") from None
    if given is None:
        raise InvalidRow(FIELD, setting, f"the hook {setting} refused it")
    if not isinstance(given, Trajectory):
        raise InvalidRow(FIELD, setting, f"the hook {setting} gave back a {type(given).__name__}, not a Trajectory")
    found = _as_stored(given, setting)
    if ids(found) != ids(trajectory):
        raise InvalidRow(FIELD, setting, f"the hook {setting} changed ids, turns or models, or left calls or turns out")
    return found


def _as_stored(given: Trajectory, setting: str) -> Trajectory:
    """The same after a way through JSON, as what it put in may be anything."""
    try:
        dumped = given.model_dump_json()
        if "\\u0000" in dumped:
            raise ValueError(dumped)
        return Trajectory.model_validate_json(dumped)
    except (ValidationError, ValueError, RecursionError):
        raise InvalidRow(FIELD, setting, f"the hook {setting} put in what JSON or a Trajectory cannot hold") from None


def of_line(session: Session, line_id: int) -> Redaction:
    """The line's redaction as it is set at the moment.

    Raises:
        InvalidSettings: this process does not understand it.
    """
    name, stored = session.execute(select(Line.name, Line.config["redaction"]).where(Line.id == line_id)).one()
    return _parsed(name, stored)


def _parsed(line: str, stored: object) -> Redaction:
    try:
        return Redaction.model_validate(stored or {})
    except ValidationError as error:
        field = ".".join(str(part) for part in error.errors(include_input=False)[0]["loc"])
        remedy = (
            "cannot be understood, so nothing of the line is stored; mend the line's config, or restart this process"
        )
        raise InvalidSettings(f"line {line} redaction.{field}", "<not shown>", remedy) from None


@dataclass(frozen=True)
class Redactions:
    """The redactions of every line by name; None of a line that has none."""

    by_line: Mapping[str, Redaction | InvalidSettings | None]

    def of(self, line: str | None) -> list[Redaction]:
        """The line's. For a line that nobody knows, those of all lines.

        Raises:
            InvalidSettings: one of them is not understood.
        """
        found = list(self.by_line.values())
        if line is not None and line in self.by_line:
            found = [self.by_line[line]]
        for one in found:
            if isinstance(one, InvalidSettings):
                raise one
        return [one for one in found if isinstance(one, Redaction)]

    @property
    def is_set(self) -> bool:
        """Whether some line has one."""
        return any(one is not None for one in self.by_line.values())


def of_lines(session: Session) -> Redactions:
    """The redactions of every line at the moment."""
    return Redactions({name: _or_error(name, stored) for name, stored in session.execute(ALL)})


ALL = select(Line.name, Line.config["redaction"])


def _or_error(line: str, stored: object) -> Redaction | InvalidSettings | None:
    try:
        found = _parsed(line, stored)
    except InvalidSettings as error:
        return error
    return found if found.is_set else None


LINES = text("""
    select trajectory_id, line from rlfleet.recordings where trajectory_id = any(:ids) and agent_id is not null
    union all
    select k.trajectory_id, l.name from rlfleet.trajectory_keys k join rlfleet.lines l on l.id = k.line_id
     where k.trajectory_id = any(:ids)
""")
OWNERS = text("select call_id, trajectory_id from rlfleet.call_keys where call_id = any(:ids)")


def lines_of(session: Session, trajectory_ids: Sequence[str]) -> dict[str, str]:
    """The line of each trajectory that was started or collected; the others are left out."""
    return {row.trajectory_id: row.line for row in session.execute(LINES, {"ids": list(trajectory_ids)})}


def owners_of(session: Session, call_ids: Sequence[str]) -> dict[str, str]:
    """The trajectory of each call that is stored."""
    return {row.call_id: row.trajectory_id for row in session.execute(OWNERS, {"ids": list(call_ids)})}
