from __future__ import annotations

import ast
from pathlib import Path


def test_the_schedule_imports_nothing_but_crontabs_and_durations() -> None:
    tree = ast.parse((Path(__file__).parents[2] / "beat_schedule.py").read_text())
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = {n.module if isinstance(n, ast.ImportFrom) else alias.name for n in nodes for alias in n.names}
    assert modules <= {"__future__", "celery.schedules", "datetime", "typing"}
