"""`rlfleet doctor` finds what any class of settings would refuse."""

from __future__ import annotations

import os

import pytest
from pydantic import AliasChoices, BaseModel, ValidationError

import admin.settings
import backends.settings
import backends.sink_settings
import db.readiness_settings
import db.settings
import environments.settings
import fleet.settings
import fleet.train_settings
import gateway.settings
import gpu.settings
import tasks.judge_settings
import tasks.settings
import worker.settings
from fleet.doctor import variables
from fleet.processes import ROOT

MODULES = [
    *(admin.settings, backends.settings, backends.sink_settings, db.readiness_settings, db.settings),
    *(environments.settings, fleet.settings),
    *(fleet.train_settings, gateway.settings, gpu.settings, tasks.judge_settings, tasks.settings, worker.settings),
]


def _classes() -> dict[str, list[type[BaseModel]]]:
    """The settings classes of each package's variables."""
    found: dict[str, list[type[BaseModel]]] = {}
    for module in MODULES:
        for one in vars(module).values():
            if isinstance(one, type) and issubclass(one, BaseModel) and one.__module__ == module.__name__:
                for field in one.model_fields.values():
                    alias = field.validation_alias
                    name = alias.choices[0] if isinstance(alias, AliasChoices) else alias
                    found.setdefault(str(name), []).append(one)
    return found


def test_no_module_of_settings_is_left_out() -> None:
    names = {path.relative_to(ROOT).with_suffix("").as_posix() for path in ROOT.glob("[a-z]*/*settings.py")}
    assert {module.__name__.replace(".", "/") for module in MODULES} == names - {"tests/settings"}


def test_whatever_a_class_of_settings_refuses_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    classes = _classes()
    for name in classes:
        monkeypatch.delenv(name, raising=False)
    refused = {name for name, several in classes.items() if any(_refuses(one, name) for one in several)}
    assert len(refused) > 30
    for name in refused:
        monkeypatch.setenv(name, "?!")
    while refused:  # of some classes the first that is wrong is said alone
        said = [one for one in variables.look(os.environ) if one.level == "fail" and one.remedy]
        found = {one.words.partition(" = ")[0] for one in said}
        assert found
        assert found <= refused
        for name in found:
            monkeypatch.delenv(name)
        refused -= found


def _refuses(one: type[BaseModel], name: str) -> bool:
    try:
        one.model_validate({name: "?!"})
    except ValidationError as error:
        return any(wrong["loc"][:1] == (name,) and wrong["type"] != "missing" for wrong in error.errors())
    return False


def test_a_wrong_value_of_a_secret_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "REDIS_URL", "RLFLEET_ALERT_WEBHOOK", "RLFLEET_JUDGE_URL"):
        monkeypatch.setenv(name, "hunter2")
    found = list(variables.look(os.environ))
    assert {one.words.partition(" = ")[0] for one in found} == {
        *("DATABASE_URL", "REDIS_URL", "RLFLEET_ALERT_WEBHOOK", "RLFLEET_JUDGE_URL")
    }
    assert "hunter2" not in str(found)
