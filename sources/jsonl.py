"""A file of JSON lines, one ``rl.records.Trajectory`` a line. A bad line never stops the good ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pydantic import ValidationError

from rl.errors import InvalidInput, InvalidRow
from rl.records import Quarantined, Trajectory
from rl.windows import WindowId, hour_of

EXCERPT = 200


class JsonLines:
    """Trajectories in a file; the window of a row is the UTC hour it ended in.

    A row that cannot be used is reported with every window, since nobody can say where it belongs; the quarantine
    keeps it once.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, window: WindowId) -> Iterator[Trajectory | Quarantined]:
        """The window's trajectories and unusable rows, in file order."""
        with self.path.open(encoding="utf-8", errors="replace") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                try:
                    trajectory = parse(line)
                except InvalidRow as error:
                    row = f"{self.path.name}:{number}"
                    yield Quarantined(
                        source="jsonl", row=row, field=error.field, reason=error.remedy, excerpt=line[:EXCERPT]
                    )
                    continue
                if hour_of(trajectory.ended_at).text == window.text:
                    yield trajectory

    def holds(self, window: WindowId) -> bool:
        """Whether some usable row ended in that hour."""
        return any(isinstance(row, Trajectory) for row in self.read(window))


def connect(url: str) -> JsonLines:
    """The file that ``jsonl:///path`` names.

    Raises:
        InvalidInput: there is no such file.
    """
    path = Path(unquote(urlsplit(url).path))
    if not path.is_file():
        raise InvalidInput("line.source", url, "no such file; give an absolute path after jsonl://")
    return JsonLines(path)


def parse(line: str) -> Trajectory:
    """The trajectory in one line.

    Raises:
        InvalidRow: it is not JSON, a field is missing or wrong, or no assistant turn is in it.
    """
    try:
        trajectory = Trajectory.model_validate(json.loads(line))
    except json.JSONDecodeError as error:
        raise InvalidRow("line", line[:EXCERPT], f"not JSON: {error.msg}") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "line"
        raise InvalidRow(field, "<see excerpt>", str(first["msg"])) from None
    if not any(call.response.content or call.response.tool_calls for call in trajectory.calls):
        raise InvalidRow("calls", len(trajectory.calls), "no assistant turn; a trajectory needs at least one")
    return trajectory
