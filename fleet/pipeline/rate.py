"""How far and how fast something goes, as columns of a progress bar and in words."""

from __future__ import annotations

from rich.progress import ProgressColumn, Task
from rich.table import Column
from rich.text import Text


class Done(ProgressColumn):
    """How many are done, and of how many; nothing where nobody counts."""

    def __init__(self, column: Column | None = None) -> None:
        super().__init__(table_column=column)

    def render(self, task: Task) -> Text:
        """Such as ``12/200``."""
        return Text("" if task.total is None else f"{task.completed:.0f}/{task.total:.0f}", style="progress.download")


class Rate(ProgressColumn):
    """Units a second, or a minute where there are few; the task's field ``unit`` says what."""

    def __init__(self, column: Column | None = None) -> None:
        super().__init__(table_column=column)

    def render(self, task: Task) -> Text:
        """The rate of the task, dimmed."""
        return Text(rate(task.speed, str(task.fields.get("unit", ""))), style="dim")


def rate(per_second: float | None, unit: str) -> str:
    """``8.3 episodes/s``, ``2.1 rounds/min``; empty where nothing is known."""
    if not per_second:
        return ""
    return f"{per_second:.1f} {unit}/s" if per_second >= 1 else f"{60 * per_second:.1f} {unit}/min"
