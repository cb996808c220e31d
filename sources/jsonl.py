"""A file of JSON lines, one ``rl.records.Trajectory`` a line. A bad line never stops the good ones."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rl.errors import InvalidRow
from rl.records import Call, Quarantined, Trajectory
from rl.windows import WindowId, hour_of
from sources.consent import unusable
from sources.lines import file_of, opened
from sources.values import flag, members, overlaps

EXCERPT = 200


class JsonLines:
    """Trajectories in a file; the window of a row is the UTC hour it ended in.

    A row that cannot be used is reported with every window, since nobody can say where it belongs; the quarantine
    keeps it once.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, window: WindowId | None) -> Iterator[Trajectory | Quarantined]:
        """The window's trajectories, or all of them, and unusable rows, in file order."""
        with opened(self.path) as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                try:
                    trajectory = parse(line)
                except InvalidRow as error:
                    yield _unusable(f"{self.path.name}:{number}", line.rstrip("\n"), error)
                    continue
                if window is None or hour_of(trajectory.ended_at).text == window.text:
                    yield trajectory

    def holds(self, window: WindowId) -> bool:
        """Whether some usable row ended in that hour."""
        return any(isinstance(row, Trajectory) for row in self.read(window))

    def hours(self, since: datetime | None = None, until: datetime | None = None) -> dict[str, int]:
        """Usable rows by the hour they ended in, of hours with some moment from ``since`` to before ``until``."""
        ended = (hour_of(row.ended_at) for row in self.read(None) if isinstance(row, Trajectory))
        return dict(sorted(Counter(one.text for one in ended if overlaps(one, since, until)).items()))


def connect(url: str) -> JsonLines:
    """The file that ``jsonl:///path`` names.

    Raises:
        InvalidInput: there is no such file.
    """
    return JsonLines(file_of(url))


def _unusable(row: str, line: str, error: InvalidRow) -> Quarantined:
    told = members(line)
    consent, own = flag(told.get("consent")), told.get("trajectory_id")
    return unusable("jsonl", row, error, line, consent=consent, trajectory_id=own)


def parse(line: str) -> Trajectory:
    """The trajectory in one line. A character that Postgres cannot hold is replaced, as ``db.calls`` does.

    Raises:
        InvalidRow: it is not JSON, a field is missing or wrong, or no assistant turn is in it.
    """
    try:
        trajectory = Trajectory.model_validate(_decoded(line))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "line"
        raise InvalidRow(field, "<see excerpt>", str(first["msg"])) from None
    _check(trajectory)
    return trajectory


def _decoded(line: str) -> object:
    try:
        return _storable(json.loads(line))
    except json.JSONDecodeError as error:
        raise InvalidRow("line", line[:EXCERPT], f"not JSON: {error.msg}") from None
    except RecursionError:
        raise InvalidRow("line", line[:EXCERPT], "not JSON: nested too deeply") from None
    except ValueError:
        raise InvalidRow("line", line[:EXCERPT], "not JSON: a number has too many digits") from None


def _storable(value: Any) -> Any:
    """NUL becomes U+FFFD, and half of a surrogate pair becomes ``?``."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_storable(key): _storable(one) for key, one in value.items()}
    return [_storable(one) for one in value] if isinstance(value, list) else value


def _check(trajectory: Trajectory) -> None:
    """What the database would refuse for the whole window is refused here for the row alone."""
    for field, moment in (("started_at", trajectory.started_at), ("ended_at", trajectory.ended_at)):
        try:
            hour_of(moment)
        except OverflowError:
            raise InvalidRow(field, "<see excerpt>", "outside of the years that UTC can say") from None
    for place, call in enumerate(trajectory.calls):
        if not _tokens_together(call):
            field, reason = f"calls.{place}.logprobs", "give prompt_token_ids, token_ids and as many logprobs, or none"
            raise InvalidRow(field, "<see excerpt>", reason)
    _check_numbers(trajectory)
    if not any(call.response.content or call.response.tool_calls for call in trajectory.calls):
        raise InvalidRow("calls", len(trajectory.calls), "no assistant turn; a trajectory needs at least one")


def _check_numbers(trajectory: Trajectory) -> None:
    for field, value in trajectory.model_dump(include={"calls", "metadata"}).items():
        try:
            json.dumps(value, allow_nan=False)
        except ValueError:
            raise InvalidRow(field, "<see excerpt>", "holds a number that is not finite") from None


def _tokens_together(call: Call) -> bool:
    if call.prompt_token_ids is None or call.token_ids is None or call.logprobs is None:
        return call.prompt_token_ids is call.token_ids is call.logprobs
    return len(call.token_ids) == len(call.logprobs)
