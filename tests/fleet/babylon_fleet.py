"""A whole fleet beside somebody else's database: servers, workers, gateway and child, with a Babylon-style source.

The source is a database on another server than the fleet's own; the processes know it by a variable that holds the URL
of a role that may only read.
"""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import text

import worker.settings
from db import lines, session, settings
from db.session import transaction
from fleet.ports import free_port
from fleet.processes import ROOT
from fleet.running import Fleet
from rl.config import LineConfig
from rl.objectives import ObjectiveConfig
from rl.scoring_config import Scoring
from tests.conftest_redis import point_app_at
from tests.sources.babylon import RIGHT, SYSTEM, Expected

VARIABLE = "BABYLON_URL"
SOURCE = f"babylon://{VARIABLE}"
LINE = "babylon"

COLUMNS = """
    select c.relname, a.attname from pg_attribute a join pg_class c on c.oid = a.attrelid
      join pg_namespace n on n.oid = c.relnamespace
     where n.nspname = 'rlfleet' and c.relkind in ('r', 'p') and not c.relispartition
       and a.attnum > 0 and not a.attisdropped
"""

Rows = list[tuple[Any, ...]]

log = logging.getLogger(__name__)


@dataclass
class World:
    """The fleet that runs, the other database by the URL of its owner and of the reading role, and what is in it.

    ``seconds`` is what each part took, ``foretold`` what dry runs said.
    """

    fleet: Fleet
    owner: str
    reader: str
    expected: Expected
    starter: Path
    seconds: dict[str, float] = field(default_factory=dict)
    foretold: dict[str, Any] = field(default_factory=dict)
    foretold_refusal: str | None = None

    @property
    def artifacts(self) -> Path:
        return Path(self.fleet.plan.environ["RLFLEET_ARTIFACTS"])

    def files(self) -> list[Path]:
        """Every file that jobs and processes have written: datasets, checkpoints, logs."""
        folders = (self.artifacts, self.fleet.home.logs)
        return [path for folder in folders for path in folder.rglob("*") if path.is_file()]

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.seconds[part] = time.monotonic() - started
        log.info("%s: %.1f s", part, self.seconds[part])

    def put_line(self, train: ObjectiveConfig, **more: Any) -> None:
        """The line as it is from here on: scored by the agents' heuristic, trained as told."""
        scoring = Scoring(method="heuristic", variant="agent")
        given: dict[str, Any] = {"source": SOURCE, "automatic": False, "scoring": scoring, "train": train} | more
        config = LineConfig(base_model=str(self.starter), **given)
        with transaction() as rows:
            lines.put(rows, LINE, config)

    def rows(self, statement: str, **values: object) -> Rows:
        """What a statement gives in the fleet's own database."""
        with transaction() as rows:
            return [tuple(row) for row in rows.execute(text(statement), values)]

    def columns_with(self, words: str) -> set[str]:
        """Every column of the fleet's own tables that holds the words anywhere."""
        look = """select 1 from rlfleet."{}" where strpos("{}"::text, :words) > 0 limit 1"""
        names = self.rows(COLUMNS)
        return {".".join(one) for one in names if self.rows(look.format(*one), words=words)}

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """``rlfleet`` with these words, in the fleet's environment."""
        environ: Mapping[str, str] = self.fleet.plan.environ
        argv = [sys.executable, "-m", "fleet", *words]
        return subprocess.run(argv, cwd=ROOT, env=dict(environ), capture_output=True, text=True, check=False)

    def answer(self, *words: str) -> dict[str, Any]:
        """What a command that succeeds prints as JSON."""
        done = self.command(*words)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def finish(self, kind: str, seconds: float) -> None:
        """Wait until no job of that kind is queued or running; one that failed has ended too."""
        waiting = "select 1 from rlfleet.jobs where kind = :kind and state in ('queued', 'running')"
        self.fleet.wait(lambda: not self.rows(waiting, kind=kind), f"the end of every {kind} job", seconds)


@contextmanager
def running(owner: str, reader: str, expected: Expected, seed: int) -> Iterator[World]:
    """A fleet whose processes know the reading role's URL, and nothing of the owner's."""
    folder = Path(tempfile.mkdtemp(prefix="rlfleet-babylon-"))
    folder.chmod(0o711)
    before = dict(os.environ)
    environ = {name: value for name, value in before.items() if name not in ("DATABASE_URL", "REDIS_URL")} | {
        VARIABLE: reader,
        "RLFLEET_HOME": str(folder / "home"),
        "RLFLEET_GATEWAY_PORT": str(free_port()),
        "RLFLEET_FLOWER_PORT": str(free_port()),
        "RLFLEET_ADMIN_PORT": str(free_port()),
        "RLFLEET_TICK_SECONDS": "1",
    }
    _forget()
    try:
        with Fleet(environ) as fleet:
            point_app_at(os.environ["REDIS_URL"])
            fleet.start()
            starter = _starter(folder, seed, fleet.plan.environ)
            fleet.wait_for_engine()
            yield World(fleet, owner, reader, expected, starter)
    finally:
        os.environ.clear()
        os.environ.update(before)
        _forget()
        shutil.rmtree(folder, ignore_errors=True)


def _starter(folder: Path, seed: int, environ: Mapping[str, str]) -> Path:
    """A model that knows nothing, with a tokenizer trained on texts like those of the logs."""
    chance = random.Random(seed)
    said = [
        f"Market m-{n % 3 + 1} stands at {chance.randrange(100)} of 100. The news are {word}. {RIGHT[word]}"
        for n, word in enumerate([*RIGHT] * 50)
    ]
    texts = folder / "texts.jsonl"
    texts.write_text("\n".join(json.dumps(one) for one in [SYSTEM, *said]))
    words = ["--texts", str(texts), "--out", str(folder / "starter"), "--seed", str(seed)]
    argv = [sys.executable, "-m", "gpu.starter", *words]
    subprocess.run(argv, cwd=ROOT, env=dict(environ), check=True, capture_output=True)
    return folder / "starter"


def _forget() -> None:
    settings.settings.cache_clear()
    session._engine.cache_clear()
    worker.settings.broker_url.cache_clear()
    worker.settings.settings.cache_clear()
