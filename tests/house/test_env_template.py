from __future__ import annotations

import ast
import importlib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import AliasChoices, BaseModel
from pydantic_settings import BaseSettings

ROOT = Path(__file__).parents[2]
ROOTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["root_packages"]
# What bench tells the processes that it starts is nobody's to set.
PACKAGES = [package for package in ROOTS if package != "bench"]
# Set by the operating system or read by other people's code; a template of ours has nothing to say about them.
FOREIGN = {"CI", "HOME", "OMP_NUM_THREADS", "PATH", "TMPDIR", "USER"}
# Set by the sandbox for the program that runs in it.
FOREIGN |= {"RESULT_FD"}
# libpq's: what a Postgres URL leaves open, it takes from these.
FOREIGN |= {"PGHOST", "PGHOSTADDR", "PGSERVICE", "PGSSLMODE"}
# Of clients of HTTP, as the variables of the proxies themselves; Compose adds its own names to it.
FOREIGN |= {"NO_PROXY"}
LINE = re.compile(r"^(?:# ?)?([A-Z][A-Z0-9_]*)=")


def _template() -> list[str]:
    """The variables of .env.template; one with a built-in value is written as a comment, ``# NAME=value``."""
    lines = (ROOT / ".env.template").read_text().splitlines()
    return [match[1] for line in lines if (match := LINE.match(line))]


def _names(model: type[BaseModel]) -> Iterator[str]:
    prefix = str(model.model_config.get("env_prefix", "")) if issubclass(model, BaseSettings) else ""
    for name, field in model.model_fields.items():
        alias = field.validation_alias or field.alias
        if isinstance(alias, AliasChoices):
            yield from (str(choice) for choice in alias.choices)
        elif alias is not None:
            yield str(alias)
        else:
            yield (prefix + name).upper()


def _of_settings() -> set[str]:
    """Every variable of the settings classes, which live in the modules of their package named ``...settings``."""
    files = [file for package in PACKAGES for file in sorted((ROOT / package).glob("*settings.py"))]
    modules = [f"{file.parent.name}.{file.stem}" for file in files]
    found: set[str] = set()
    for module in map(importlib.import_module, modules):
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, BaseModel) and value.__module__ == module.__name__:
                found.update(_names(value))
    return found


def _of_compose() -> set[str]:
    files = [ROOT / "docker-compose.yml", *sorted((ROOT / "docker").glob("*.yml"))]
    return {name for path in files for name in re.findall(r"\$\{([A-Z0-9_]+)", path.read_text())}


def _reads(tree: ast.AST) -> Iterator[str]:
    """Names in ``environ["NAME"]``, ``environ.get("NAME")`` and ``getenv("NAME")``; assignments are not reads."""
    for node in ast.walk(tree):
        key: ast.expr | None = None
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
            key = node.slice if ast.unparse(node.value).endswith("environ") else None
        elif isinstance(node, ast.Call) and node.args:
            key = node.args[0] if re.search(r"(environ\.get|getenv)$", ast.unparse(node.func)) else None
        if isinstance(key, ast.Constant) and isinstance(key.value, str):
            yield key.value


def _of_code() -> dict[str, str]:
    """Variable to the file that reads it directly."""
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return {name: str(path.relative_to(ROOT)) for path in paths for name in _reads(ast.parse(path.read_text()))}


def test_the_template_lists_each_variable_once() -> None:
    names = _template()
    assert sorted(names) == sorted(set(names))


def test_every_variable_that_is_read_is_in_the_template() -> None:
    read = _of_settings() | _of_compose() | set(_of_code())
    assert read - set(_template()) - FOREIGN == set()


def test_every_variable_in_the_template_is_read() -> None:
    assert set(_template()) - _of_settings() - _of_compose() - set(_of_code()) == set()


def test_our_own_variables_belong_to_a_settings_class() -> None:
    strays = {name: path for name, path in _of_code().items() if name.startswith("RLFLEET_")}
    assert {name: path for name, path in strays.items() if name not in _of_settings()} == {}


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("os.environ['A']", {"A"}),
        ("os.environ['A'] = '1'", set()),
        ("environ.get('B', '')", {"B"}),
        ("os.getenv('C')", {"C"}),
        ("table.get('D')", set()),
    ],
)
def test_direct_reads_are_found(code: str, names: set[str]) -> None:
    assert set(_reads(ast.parse(code))) == names
