"""``python -m fleet.reference`` wrote the pages that there are, with every variable, key and command."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel, TypeAdapter

from fleet.doctor.secrets import CREDENTIALS
from fleet.reference import __main__ as reference
from fleet.reference import commands
from fleet.reference.cells import default, prose, values
from fleet.reference.variables import PACKAGES, models, of_field, variables
from rl.config import LineConfig, RunConfig
from rl.objectives import OBJECTIVES
from rl.pipeline import Pipeline

ROOT = Path(__file__).parents[2]
SECRET = re.compile(r"_(KEYS?|TOKEN|SECRET|PASSWORD)$")
PAGE = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")


def test_the_pages_are_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert reference.main(["--check"]) == 0, capsys.readouterr().err


def test_a_page_that_is_not_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "docs").mkdir()
    monkeypatch.setattr(reference, "ROOT", tmp_path)
    monkeypatch.setattr(reference, "written", lambda root: {"docs/one.md": "# One\n"})
    assert reference.main(["--check"]) == 1
    assert "run `python -m fleet.reference`" in capsys.readouterr().err
    assert reference.main([]) == 0
    assert reference.main(["--check"]) == 0


def test_every_command_and_option_is_told() -> None:
    page = commands.page()
    assert page.startswith("# The command\n")
    for words in ("## `rlfleet jobs requeue`", "## `rlfleet train`", "`--dry-run`", "`single`, `list`"):
        assert words in page
    assert "```\nrlfleet explain NAME [OPTIONS]\n```" in page


def test_every_package_with_settings_has_a_part() -> None:
    assert {file.parent.name for file in ROOT.glob("*/*settings.py")} == set(PACKAGES)


def test_every_variable_is_told_once_with_what_it_is_for() -> None:
    every = [one for one in variables(ROOT) if one.name != "PATH"]
    template = re.findall(r"^(?:# ?)?([A-Z][A-Z0-9_]*)=", (ROOT / ".env.template").read_text(), re.MULTILINE)
    assert sorted(one.name for one in every) == sorted(template)
    assert [one.name for one in every if not one.purpose] == []
    rows = re.findall(r"^\| `([A-Z][A-Z0-9_]*)` \|", PAGE, re.MULTILINE)
    assert sorted(rows) == sorted(template)


def test_secrets_are_told_as_such() -> None:
    rows = dict(re.findall(r"^\| `([A-Z][A-Z0-9_]*)` \| .*? \| (.*?) \|", PAGE, re.MULTILINE))
    kept = {name for name, told in rows.items() if told.endswith("secret")}
    assert {"DATABASE_URL", "REDIS_URL", "RLFLEET_ENGINE_KEY", "RLFLEET_GATEWAY_KEYS", "RLFLEET_JUDGE_KEY"} <= kept
    assert {"RLFLEET_GATEWAY_KEY", "RLFLEET_SMTP_URL", "RLFLEET_ALERT_WEBHOOK", "RLFLEET_ALERT_TOKEN"} <= kept
    assert {name for name in rows if SECRET.search(name)} <= kept
    assert "RLFLEET_GATEWAY_PORT" not in kept


SECRETS = [
    (model, field, one.name)
    for package in PACKAGES
    for model in models(ROOT, package)
    for field in model.model_fields
    for one in of_field(model, field, package)
    if SECRET.search(one.name) or one.name in ("DATABASE_URL", "REDIS_URL")
]


def test_secrets_are_found() -> None:
    found = {name for _, _, name in SECRETS}
    assert {"RLFLEET_GATEWAY_KEY", "RLFLEET_ENGINE_KEY", "HUGGING_FACE_HUB_TOKEN", "RLFLEET_PLAY_KEY"} <= found
    readers = {model.__module__ for model, _, name in SECRETS if name == "RLFLEET_ENGINE_KEY"}
    assert readers == {"worker.settings", "gpu.settings", "gateway.settings"}


@pytest.mark.parametrize(("model", "field", "name"), SECRETS, ids=lambda one: getattr(one, "__qualname__", one))
def test_no_secret_is_shown(model: type[BaseModel], field: str, name: str) -> None:
    value = TypeAdapter(model.model_fields[field].annotation).validate_python("hush")
    shown = model.model_construct(**{field: value})
    assert "hush" not in f"{shown!r} {shown}", name


def test_built_in_values_that_differ_are_told_with_their_readers() -> None:
    told = {one.name: one for one in variables(ROOT)}
    url = told["RLFLEET_GATEWAY_URL"]
    assert (url.packages, url.default) == (("worker", "admin"), "`http://127.0.0.1:8300` (worker), unset (admin)")
    assert url.purpose.startswith("where the gateway is that rollouts call (worker); ")
    assert url.purpose.endswith("unset: not looked at (admin)")
    assert told["REDIS_URL"].default == "must be set (worker), unset (fleet)"
    assert told["RLFLEET_GATEWAY_PORT"].default == "`8300`"


def test_what_the_doctor_looks_for_is_read_by_somebody() -> None:
    asked = {name for names, _ in CREDENTIALS.values() for name in names}
    assert asked <= {one.name for one in variables(ROOT)}


@pytest.mark.parametrize("model", [LineConfig, RunConfig, Pipeline, *OBJECTIVES])
def test_every_key_is_there(model: type[LineConfig | RunConfig | Pipeline]) -> None:
    keys = [name for name in model.model_fields if name != "objective"]
    assert [name for name in keys if f"\n| `{name}` |" not in PAGE] == []


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({"type": "integer", "minimum": 1, "maximum": 9, "default": 3}, ("a whole number from 1 to 9", "`3`")),
        (
            {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "null"}], "default": None},
            ("a number above 0", "unset"),
        ),
        ({"enum": ["a", "b"], "default": "a"}, ("`a`, `b`", "`a`")),
        ({"anyOf": [{"enum": ["auto"]}, {"type": "integer"}]}, ("`auto` or a whole number", "must be set")),
        ({"type": "array", "items": {"type": "number"}, "default": []}, ("a list, each a number", "`[]`")),
        ({"type": "boolean", "default": False}, ("`true` or `false`", "`false`")),
    ],
)
def test_a_field_in_words(schema: dict[str, object], told: tuple[str, str]) -> None:
    assert (values(schema), default(schema)) == told


def test_a_docstring_as_prose() -> None:
    text = "Where ``a`` is. None is the first; with None there are two.\n\nRaises:\n    InvalidInput: never."
    assert prose(text) == "Where `a` is. Unset is the first; with unset there are two."
