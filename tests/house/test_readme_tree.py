from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GLYPHS = "│├└─ \t"
SAMPLE = """
rl/                   the pure core
├── errors.py         every error
└── deep/
    └── leaf.py
.ci/run               what CI runs
Makefile
"""


def _entries(tree: str) -> list[str]:
    """The paths of a drawn or indented tree, one entry a line; what follows two spaces or a tab is its description."""
    open_folders: list[tuple[int, str]] = []
    found = []
    for line in filter(str.strip, tree.splitlines()):
        rest = line.lstrip(GLYPHS)
        column = len(line) - len(rest)
        name = rest.replace("\t", "  ").split("  ")[0].strip()
        while open_folders and open_folders[-1][0] >= column:
            open_folders.pop()
        path = "".join(folder for _, folder in open_folders) + name
        if name.endswith("/"):
            open_folders.append((column, name))
        found.append(path)
    return found


def _readme_tree() -> list[str]:
    readme = (ROOT / "README.md").read_text()
    _, heading, section = readme.partition("\n## The tree\n")
    assert heading, "README.md needs a section `## The tree` with a fenced block, one path a line"
    return _entries(section.split("```")[1].split("\n", 1)[1])


def test_entries_are_read_from_a_drawn_tree() -> None:
    assert _entries(SAMPLE) == ["rl/", "rl/errors.py", "rl/deep/", "rl/deep/leaf.py", ".ci/run", "Makefile"]


def test_every_path_in_the_tree_exists() -> None:
    missing = [path for path in _readme_tree() if not (ROOT / path).exists()]
    assert missing == []


def test_every_tracked_top_level_entry_is_in_the_tree() -> None:
    run = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if run.returncode:
        pytest.skip("not a git checkout")
    tracked = {line.split("/")[0] for line in run.stdout.splitlines()}
    assert tracked - {path.split("/")[0] for path in _readme_tree()} == set()
