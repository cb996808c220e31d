"""TOML files as configs: what is wrong with one is told, and no secret is."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from fleet.files import parsed, read_toml, read_values
from rl.config import LineConfig, RunConfig
from rl.errors import InvalidSettings

SECRET = "hunter2"


@pytest.mark.parametrize(
    "source",
    [
        f"postgresql://bob:{SECRET}@db/logs",
        f"babylon://bob:{SECRET}@db/logs",
        f"postgresql:///logs?user=bob&PASSWORD={SECRET}",
    ],
)
def test_a_password_in_a_source_is_refused_and_never_shown(tmp_path: Path, source: str) -> None:
    path = tmp_path / "line.toml"
    path.write_text(f'base_model = "/m"\nsource = "{source}"\n')
    with pytest.raises(InvalidSettings) as caught:
        read_toml(path, LineConfig)
    assert "line.toml: source" in str(caught.value)
    assert "put the URL into an environment variable X, and write babylon://X" in str(caught.value)
    assert SECRET not in str(caught.value)
    with pytest.raises(ValidationError) as refused:
        LineConfig(base_model="/m", source=source)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("source", ["jsonl:///srv/logs/a@b:c.jsonl", "babylon://LOGS_URL", "recorded://main", None])
def test_a_source_without_a_password_is_taken(source: str | None) -> None:
    assert LineConfig(base_model="/m", source=source).source == source


def test_what_is_wrong_is_told_with_its_place_and_value(tmp_path: Path) -> None:
    path = tmp_path / "line.toml"
    path.write_text('base_model = "/m"\n[late]\npolicy = "later"\n')
    with pytest.raises(InvalidSettings, match=r"line\.toml: late\.policy = 'later': Input should be 'reopen'"):
        read_toml(path, LineConfig)


def test_what_no_single_key_is_wrong_with_shows_nothing_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "line.toml"
    path.write_text(
        'base_model = "/srv/model"\n[validation]\nenvironment = "babyai"\nsplit = "validation"\ncount = 300\n'
        '[held_out]\nverifier = "http://127.0.0.1:9/"\n'
    )
    with pytest.raises(InvalidSettings) as caught:
        read_toml(path, LineConfig)
    assert str(caught.value).startswith("file = 'line.toml': ")
    assert "leave one of them out" in str(caught.value)
    path.write_text('version_prefix = "shop"\n')
    with pytest.raises(InvalidSettings, match=r"line\.toml: base_model = None: Field required"):
        read_toml(path, LineConfig)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("clip_low = 2", r"run\.toml: train\.clip_low = 2: "),
        ("checkpointing = 0", r"run\.toml: train\.checkpointing = 0: "),
        ('overlong = { rule = "soft", max_tokens = 0, buffer = 1 }', r"run\.toml: train\.overlong\.max_tokens = 0: "),
        ("[train.optimizer]\nlearning_rate = 0", r"run\.toml: train\.optimizer\.learning_rate = 0"),
    ],
)
def test_a_key_is_named_as_the_file_has_it(tmp_path: Path, wrong: str, says: str) -> None:
    path = tmp_path / "run.toml"
    path.write_text(f"[train]\n{wrong}\n")
    values = {**read_values(path), "name": "x", "rounds": 1}
    values["rollout"] = {"environment": "sat-small", "scenarios": 2, "episodes": 2}
    values["train"].setdefault("optimizer", {"learning_rate": 1})
    judged = {"environment": "sat-small", "count": 2}
    values |= {split: judged | {"split": split} for split in ("validation", "held_out")}
    with pytest.raises(InvalidSettings, match=says):
        parsed(path, values, RunConfig)
