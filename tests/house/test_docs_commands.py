"""Every command, option, module, file and target that the pages name is there."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import typer.main

from fleet.cli import app
from rl.config import LineConfig

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```\w*\n(.*?)^```", re.DOTALL | re.MULTILINE)
SPAN = re.compile(r"`([^`]+)`")
COMMAND = re.compile(r"(?<![\w./-])(?:\.venv/bin/)?rlfleet ([a-z][a-z-]*)(?![\w:])([^\n]*)")
END = re.compile(r"   *|#|\||;|&&|\$\(|\)|, |$")
"""Where the words of a command end, and those of whoever describes it begin."""
OPTION = re.compile(r"(?<=[\s\[])--[a-z][a-z-]*")
MODULE = re.compile(r"python -m ([a-z_][\w.]*)")
TEST = re.compile(r"\btests/[\w/.-]*\w")
MAKE = re.compile(r"^make ([a-z-]+)", re.MULTILINE)
FOREIGN = {"pip", "pytest", "venv"}
ROOT_COMMAND: Any = typer.main.get_command(app)


def _code(page: Path) -> Iterator[str]:
    """Blocks, and spans of code within sentences, each on one line."""
    text = page.read_text(encoding="utf-8")
    yield from FENCE.findall(text)
    yield from (" ".join(span.split()) for span in SPAN.findall(FENCE.sub("", text)))


def _commands(page: Path) -> Iterator[tuple[str, str]]:
    for code in _code(page):
        for name, rest in COMMAND.findall(code.replace("\\\n", " ")):
            yield name, rest[: END.search(rest).start()] if END.search(rest) else rest  # type: ignore[union-attr]


def _wrong(name: str, rest: str) -> str | None:
    """What a command has that is not there."""
    command, path = ROOT_COMMAND.commands.get(name), name
    if command is None:
        return f"rlfleet {name}"
    words = rest.split()
    if hasattr(command, "commands") and words and words[0].isalpha() and words[0].islower():
        path = f"{name} {words[0]}"
        command = command.commands.get(words[0])
        if command is None:
            return f"rlfleet {path}"
    known = {option for one in getattr(command, "params", ()) for option in (*one.opts, *one.secondary_opts)}
    known |= {"--help"}
    if hasattr(command, "commands"):
        known |= {option for sub in command.commands.values() for one in sub.params for option in one.opts}
    unknown = [option for option in OPTION.findall(f" {rest}") if option not in known]
    return f"rlfleet {path} {' '.join(unknown)}" if unknown else None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_is_there(page: Path) -> None:
    wrong = [said for name, rest in _commands(page) if (said := _wrong(name, rest))]
    assert wrong == []
    text = page.read_text(encoding="utf-8")
    modules = [one.rstrip(".") for one in MODULE.findall(text)]
    assert [one for one in modules if one not in FOREIGN and find_spec(one) is None] == []
    files = [one.rstrip(".") for one in TEST.findall(text) if page.name != "adding.md"]
    assert [one for one in files if not (ROOT / one).exists()] == []
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {target for code in _code(page) for target in MAKE.findall(code)} - targets == set()


def test_every_command_is_on_some_page() -> None:
    named = {name for page in PAGES for name, _ in _commands(page)}
    assert set(ROOT_COMMAND.commands) - named == set()


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("rlfleet status --json", []),
        ("rlfleet fly", ["rlfleet fly"]),
        ("rlfleet status --jsn", ["rlfleet status --jsn"]),
        ("rlfleet jobs burn 3", ["rlfleet jobs burn"]),
        ("rlfleet jobs list --nope", ["rlfleet jobs list --nope"]),
        ("rlfleet status   what --this says", []),
    ],
)
def test_mistakes_are_found(tmp_path: Path, line: str, wrong: list[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"```\n{line}\n```\n")
    assert [said for name, rest in _commands(page) if (said := _wrong(name, rest))] == wrong


def test_the_line_of_the_quick_start_can_be_used() -> None:
    text = (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    config = LineConfig.model_validate(tomllib.loads(block))
    assert config.train is not None
    assert config.train.objective == "sft"
