"""The registry of sources: every kind can be connected to, and the errors say what to do."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from urllib.parse import quote

import pytest

import sources
from rl.errors import InvalidInput
from sources.jsonl import JsonLines


@pytest.mark.parametrize("kind", sources.KINDS)
def test_every_kind_has_a_module_that_connects(kind: str) -> None:
    assert callable(import_module(sources.KINDS[kind]).connect)


@pytest.mark.parametrize("name", ["agent.jsonl", "agent logs.jsonl", "50%.jsonl", "a?b#c.jsonl", "journal-é.jsonl"])
def test_a_quoted_path_is_the_file_it_names(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.touch()
    source = sources.connect(f"jsonl://{quote(str(path))}")
    assert isinstance(source, JsonLines)
    assert source.path == path


def test_the_scheme_alone_chooses_the_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    fake = ModuleType("fake_source")
    monkeypatch.setattr(fake, "connect", asked.append, raising=False)
    monkeypatch.setitem(sys.modules, "fake_source", fake)
    monkeypatch.setitem(sources.KINDS, "fake", "fake_source")
    sources.connect("fake://host/table?limit=3")
    assert asked == ["fake://host/table?limit=3"]


def test_an_unknown_kind_is_refused_with_every_known_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "KINDS", {"jsonl": "sources.jsonl", "babylon": "sources.babylon"})
    with pytest.raises(InvalidInput) as caught:
        sources.connect("parquet:///srv/agent")
    error = caught.value
    assert (error.field, error.value) == ("line.source", "parquet:///srv/agent")
    assert error.remedy == "unknown kind of source; known: babylon://, jsonl://"


@pytest.mark.parametrize("url", ["jsonl://", "jsonl:///", "jsonl:///srv/none.jsonl", "jsonl://srv/none.jsonl"])
def test_a_place_that_is_not_there_is_refused_with_the_remedy(url: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        sources.connect(url)
    assert (caught.value.field, caught.value.value) == ("line.source", url)
    assert caught.value.remedy == "no such file; give an absolute path after jsonl://"


def test_no_kind_is_imported_before_it_is_asked_for() -> None:
    code = "import sys, sources; print(*(set(sources.KINDS.values()) & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""
