"""``docs/adding.md``, followed word by word in a copy of the tree."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest_database import *  # noqa: F403
from tests.tasks.rows import rows

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "adding.md").read_text(encoding="utf-8")
PACKAGES = ("admin", "backends", "db", "environments", "fleet", "gateway", "gpu", "rl", "sources", "tasks", "worker")
FILES = (".env.template", "beat_schedule.py", "pyproject.toml")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
NAMED = re.compile(r"`([\w./]+\.(?:py|csv|md))`")
COLLECT = """
import sys
from db import dispatch, jobs, lines, windows
from db.session import transaction
from rl.config import LineConfig
from rl.windows import parse
from tasks.carry import Lease
from tasks.gather import from_source

window, url = sys.argv[1:]
with transaction() as session:
    line = lines.put(session, "main", LineConfig(base_model="/base", source=url))
    windows.ensure(session, line, parse(window), state="closed")
    spec = dispatch.Spec("collect", line, inputs={"window": window}, config={"source": url}, queue="collect")
    job = dispatch.request(session, spec)
claim = jobs.claim(job, "a test", 60)
effect = from_source(claim, Lease(claim, 60))
with transaction() as session:
    jobs.finish(session, claim, effect)
"""
"""A collecting job on one window, in a process that imports the copy."""


class Copy:
    """A copy of the tree in which a section of the page is followed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "tree"
        skipped = shutil.ignore_patterns("__pycache__")
        for name in (*PACKAGES, "docs", "tests"):
            shutil.copytree(ROOT / name, self.folder / name, ignore=skipped)
        for name in FILES:
            shutil.copy(ROOT / name, self.folder / name)
        programs = folder / "bin"
        programs.mkdir()
        for name, words in (("python", ""), ("rlfleet", " -m fleet")):
            (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable}{words} "$@"\n')
            (programs / name).chmod(0o755)
        self.environ = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}"}

    def follow(self, section: str) -> list[str]:
        """Write the section's files, apply its changes, run its commands; what each block of commands printed."""
        text = re.split(r"^## ", PAGE.partition(f"\n## {section}\n")[2], flags=re.MULTILINE)[0]
        printed, begin, place = [], 0, None
        for block in BLOCK.finditer(text):
            named = NAMED.findall(text[begin : block.start()])
            place, begin = named[-1] if named else place, block.end()
            if block[1] == "sh":
                printed.append(self.run("bash", "-eu", "-c", block[2]))
            elif block[1] == "diff":
                self._change(str(place), block[2])
            else:
                (self.folder / str(place)).write_text(block[2])
        return printed

    def run(self, *words: str) -> str:
        done = subprocess.run(
            words, cwd=self.folder, env=self.environ, capture_output=True, text=True, timeout=200, check=False
        )
        assert done.returncode == 0, f"{words}: {done.stdout}\n{done.stderr}"
        return done.stdout

    def _change(self, place: str, block: str) -> None:
        lines = block.splitlines()
        before, after = ("\n".join(one[1:] for one in lines if one[:1] != sign) for sign in "+-")
        text = (self.folder / place).read_text()
        assert f"\n{text}".count(f"\n{before}\n") == 1, f"{place} does not have once:\n{before}"
        (self.folder / place).write_text(f"\n{text}".replace(f"\n{before}\n", f"\n{after}\n")[1:])


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return Copy(tmp_path)


def test_the_page_has_no_other_sections() -> None:
    assert re.findall(r"^## (.+)$", PAGE, re.MULTILINE) == ["An environment", "An objective", "A source"]


def test_an_environment_that_is_what_it_says(copy: Copy) -> None:
    copy.follow("An environment")
    told = json.loads(copy.run("rlfleet", "environments", "--check", "sums", "--json"))
    (row,) = told["environments"]
    assert (row["name"], row["oracle_success"], row["oracle_n"], row["passed"]) == ("sums", 1.0, 50, True)
    assert row["random_success"] < 0.1
    assert not (ROOT / "environments" / "sums.py").exists()


@pytest.mark.slow
def test_an_objective_that_trains_two_steps(copy: Copy) -> None:
    (printed,) = copy.follow("An objective")
    assert re.search(r"^\d+ passed", printed.splitlines()[-1])
    assert "masked" not in (ROOT / "docs" / "objectives.md").read_text(encoding="utf-8")


def test_a_source_whose_rows_are_collected(copy: Copy, database: str) -> None:
    (printed,) = copy.follow("A source")
    assert "reward" in printed
    url = f"sheet://{copy.folder}/answers.csv"
    told = json.loads(copy.run("rlfleet", "assess", url, "--json"))
    assert (told["rows"]["read"], told["rows"]["quarantined"]) == (4, 1)
    copy.environ["DATABASE_URL"] = database
    copy.run(sys.executable, "-c", COLLECT, "2025-01-15T10:00", url)
    collected = rows("select trajectory_id, reward from rlfleet.trajectories order by 1")
    assert [tuple(row) for row in collected] == [("faq-1", 1.0), ("faq-2", 0.0)]
    assert [tuple(row) for row in rows("select name, state from rlfleet.windows")] == [
        ("2025-01-15T10:00", "collected")
    ]
    assert [tuple(row) for row in rows("select source, field from rlfleet.quarantine")] == [("sheet", "reward")]
