"""The sink ``jsonl``: a file of JSON lines for each run, with what it was told, its steps and its results."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from backends.sink_files import replaced
from backends.sinks import Copied, Run


class JsonlSink:
    """Writes ``GROUP/KEY.jsonl`` below ``folder``, anew and whole each time: whoever reads it never sees a part."""

    name = "jsonl"
    takes_models = False

    def __init__(self, folder: Path, place: str = "") -> None:
        self._folder, self.place = folder, place

    def put(self, run: Run) -> Copied:
        path = self._folder / run.group / f"{run.key}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced(path, path.parent) as file:
            file.writelines(f"{json.dumps({'schema': 1, **row})}\n".encode() for row in _rows(run))
        return Copied(run.mark)

    def arrived(self) -> Iterable[Copied]:
        return ()


def _rows(run: Run) -> Iterator[dict[str, Any]]:
    yield {
        "kind": "params",
        "run": run.key,
        "name": run.name,
        "group": run.group,
        "tags": list(run.tags),
        "state": run.state,
        "params": dict(run.params),
    }
    for step in run.steps:
        yield {"kind": "metrics", "step": step.step, "metrics": dict(step.metrics), "at": step.at}
    for evaluated in run.evaluations:
        yield {"kind": "evaluation", **vars(evaluated)}
    for decided in run.decisions:
        yield {"kind": "decision", **vars(decided)}
    for model in run.models:
        yield {"kind": "model", "name": model.name, "step": model.step, "sha256": model.sha256}
