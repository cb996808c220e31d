"""The folder of a base model: one on this machine, or what the hub gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet.pipeline import hub
from fleet.pipeline.hub import folder_of
from rl.errors import InvalidInput, StartError


def test_a_base_model_is_a_folder_or_the_hubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert folder_of(str(tmp_path)) == tmp_path.resolve()
    with pytest.raises(InvalidInput, match=r"model\.base = '/nowhere': there is no such folder"):
        folder_of("/nowhere")
    asked: list[tuple[str, list[str]]] = []

    def download(name: str, allow_patterns: list[str]) -> str:
        asked.append((name, allow_patterns))
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert folder_of("Qwen/Qwen3-0.6B") == tmp_path.resolve()
    assert asked == [("Qwen/Qwen3-0.6B", list(hub.WANTED))]


def test_a_hub_that_is_away_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object, **__: object) -> str:
        raise ConnectionError("no route")

    monkeypatch.setattr("huggingface_hub.snapshot_download", away)
    with pytest.raises(StartError, match=r"model\.base = a/b: the hub did not give it \(ConnectionError\)"):
        folder_of("a/b")


@pytest.mark.parametrize("base", ["foo/a--b", "./nowhere", "foo/.."])
def test_what_the_hub_takes_for_no_id_is_refused(base: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInput, match=r"model\.base = .*: there is no such folder, and a hub id looks like"):
        folder_of(base)
