"""Every command, option, module, file and target that the pages name is there."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

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


class Said(NamedTuple):
    """A command of a page, the words behind its name, and whether they stand in a block, to be typed as they are."""

    name: str
    rest: str
    is_block: bool


def _code(page: Path) -> Iterator[tuple[str, bool]]:
    """Blocks, which say so, and spans of code within sentences, each on one line."""
    text = page.read_text(encoding="utf-8")
    yield from ((block, True) for block in FENCE.findall(text))
    yield from ((" ".join(span.split()), False) for span in SPAN.findall(FENCE.sub("", text)))


def _commands(page: Path) -> Iterator[Said]:
    """Each command with its words; of a group also those that stand behind a ``|`` each."""
    for code, is_block in _code(page):
        for name, rest in COMMAND.findall(code.replace("\\\n", " ")):
            yield Said(name, _words(rest), is_block)
            group = getattr(ROOT_COMMAND.commands.get(name), "commands", {})
            for part in rest.split("#")[0].split("|")[1:]:
                if part.split()[:1] and part.split()[0] in group:
                    yield Said(name, _words(f" {part.strip()}"), is_block)


def _words(rest: str) -> str:
    end = END.search(rest)
    return rest[: end.start()] if end else rest


def _wrong(said: Said) -> str | None:
    """What a command has that is not there, or lacks though it is complete but for that."""
    name, rest, is_block = said
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
    if unknown:
        return f"rlfleet {path} {' '.join(unknown)}"
    words = words[path.count(" ") :]
    lacks = _lacks(command, words) if words or is_block else []  # else it is the command's name and no more
    return f"rlfleet {path} without {' '.join(lacks)}" if lacks else None


def _lacks(command: Any, words: list[str]) -> list[str]:
    """The required options that are not among the words of a command that has all its arguments."""
    if "[OPTIONS]" in words or hasattr(command, "commands"):
        return []
    values = {option for one in command.params for option in one.opts if not getattr(one, "is_flag", True)}
    given = [one for one, last in zip(words, ["", *words], strict=False) if one[0] != "-" and last not in values]
    required = [one for one in command.params if one.required]
    if len(given) < sum(one.param_type_name == "argument" for one in required):
        return []
    needed = (one.opts[-1] for one in required if one.param_type_name == "option")
    return [option for option in needed if option not in words]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_is_there(page: Path) -> None:
    wrong = [words for said in _commands(page) if (words := _wrong(said))]
    assert wrong == []
    text = page.read_text(encoding="utf-8")
    modules = [one.rstrip(".") for one in MODULE.findall(text)]
    assert [one for one in modules if one not in FOREIGN and find_spec(one) is None] == []
    files = [one.rstrip(".") for one in TEST.findall(text) if page.name != "adding.md"]
    assert [one for one in files if not (ROOT / one).exists()] == []
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {target for code, _ in _code(page) for target in MAKE.findall(code)} - targets == set()


def test_every_command_is_on_some_page() -> None:
    named = {said.name for page in PAGES for said in _commands(page)}
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
        ("rlfleet rollback --to v1.0.1", ["rlfleet rollback without --reason"]),
        ("rlfleet rollback", ["rlfleet rollback without --reason"]),
        ("rlfleet deploy VERSION --share 30", ["rlfleet deploy without --reason"]),
        ("rlfleet deploy VERSION --share 30 --reason TEXT", []),
        ("rlfleet deploy --share 30", []),
        ("rlfleet deploy", []),
        ("rlfleet pin --clear", ["rlfleet pin without --reason"]),
        ("rlfleet jobs list | show N | pause KIND | resume KIND", ["rlfleet jobs pause without --reason"]),
        ("rlfleet jobs list --json | pause", []),
    ],
)
def test_mistakes_are_found(tmp_path: Path, line: str, wrong: list[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"```\n{line}\n```\n")
    assert [words for said in _commands(page) if (words := _wrong(said))] == wrong


def test_the_line_of_the_quick_start_can_be_used() -> None:
    text = (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    config = LineConfig.model_validate(tomllib.loads(block))
    assert config.train is not None
    assert config.train.objective == "sft"
