"""Every secret variable of every settings class may come in a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr
from pydantic_settings import BaseSettings

from fleet.reference.variables import PACKAGES, models, of_field
from gateway.settings import problems
from gpu.settings import checked
from rl.errors import InvalidSettings, StartError
from rl.secret_files import SECRETS

ROOT = Path(__file__).parents[2]
FITTING = {
    "DATABASE_URL": "postgresql://u:hush@127.0.0.1/n",
    "REDIS_URL": "redis://:hush@127.0.0.1/0",
    "RLFLEET_ALERT_WEBHOOK": "https://chat.example/hush",
    "RLFLEET_SMTP_URL": "smtps://u:hush@mail.example",
}
NEEDED = {"RLFLEET_ALERT_FROM": "a@b.example", "RLFLEET_ALERT_TO": "a@b.example"}


def _fields() -> Iterator[tuple[type[BaseModel], str, str]]:
    for package in PACKAGES:
        for model in models(ROOT, package):
            for field in model.model_fields:
                yield from ((model, field, one.name) for one in of_field(model, field, package) if one.secret)


FIELDS = list(_fields())


def test_the_list_is_of_all_secrets() -> None:
    assert set(SECRETS) == {name for _, _, name in FIELDS}
    assert list(SECRETS) == sorted(SECRETS)


def _read(model: type[Any], field: str, environ: dict[str, str], patch: pytest.MonkeyPatch) -> str | None:
    for name in (*SECRETS, *(f"{name}_FILE" for name in SECRETS)):
        patch.delenv(name, raising=False)
    for name, value in (NEEDED | environ).items():
        patch.setenv(name, value)
    made = model() if issubclass(model, BaseSettings) else model.read(environ)
    value = getattr(made, field)
    return value.get_secret_value() if isinstance(value, SecretStr) else value


@pytest.mark.parametrize(("model", "field", "name"), FIELDS, ids=lambda one: getattr(one, "__qualname__", one))
def test_each_is_read_from_a_file(
    model: type[BaseModel], field: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = FITTING.get(name, "hush")
    (tmp_path / "secret").write_text(f"{value}\n")
    environ = {f"{name}_FILE": str(tmp_path / "secret")}
    assert _read(model, field, environ, monkeypatch) == value
    with pytest.raises(InvalidSettings, match=f"{name} and {name}_FILE are both set") as said:
        _read(model, field, environ | {name: value}, monkeypatch)
    assert "hush" not in str(said.value)
    assert _read(model, field, environ | {name: ""}, monkeypatch) == value
    with pytest.raises(InvalidSettings, match=f"{name}_FILE = '/nowhere': the file cannot be read"):
        _read(model, field, {f"{name}_FILE": "/nowhere"}, monkeypatch)


def test_of_two_names_the_first_counts_whichever_way_it_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.judge_settings import JudgeSettings

    (tmp_path / "key").write_text("in a file\n")
    file, key = str(tmp_path / "key"), "in a variable"
    names = ("RLFLEET_JUDGE_KEY", "OPENPIPE_API_KEY")
    assert _read(JudgeSettings, "key", {names[0]: key, f"{names[1]}_FILE": file}, monkeypatch) == key
    assert _read(JudgeSettings, "key", {f"{names[0]}_FILE": file, names[1]: key}, monkeypatch) == "in a file"


def test_processes_say_what_is_wrong_with_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLFLEET_ENGINE_KEY_FILE", "/nowhere")
    (one,) = problems()
    assert str(one).startswith("RLFLEET_ENGINE_KEY_FILE = '/nowhere': the file cannot be read")
    with pytest.raises(StartError, match="RLFLEET_ENGINE_KEY_FILE = '/nowhere': the file cannot be read"):
        checked()
