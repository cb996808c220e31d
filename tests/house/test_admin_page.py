"""The page about the admin API lists every endpoint, with the role that it takes."""

from __future__ import annotations

import re
from pathlib import Path

from admin.api.shapes import PROBLEMS
from admin.app import create_app

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "admin.md").read_text()
WHOLE_ROW = re.compile(r"^\| `(GET|POST) (/[^`]*)` \|.*$", re.MULTILINE)
SHARED = {"line", "limit", "before"}
AUDITED = re.compile(r"^\| the (?:server and the shell|shell alone) \|(.*)\|$", re.MULTILINE)
NOTED = re.compile(
    r'(?:acting\(caller|noted\(|noting\(|_change\(\w+(?:, caller)?|audit\.note\(session, [\w{}()@".]+),? ?'
    r'("[a-z ]+"(?: if \w+(?:\.\w+)? else "[a-z ]+")?)'
)
"""Where code says in whose name it does what, up to the name of the action."""
ROW = re.compile(r"^\| `(GET|POST) (/[^`]*)` \| (none|viewer|operator) \|", re.MULTILINE)
WITHOUT_TOKEN = {"/live", "/ready"}
FOR_OPERATORS = {"/api/admin/audit", "/api/admin/tokens"}


def test_every_endpoint_is_on_the_page_with_its_role() -> None:
    paths = create_app().openapi()["paths"]
    known = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    roles = {(method, path): role for method, path, role in ROW.findall(PAGE)}
    assert set(roles) == known
    assert {path for (_, path), role in roles.items() if role == "none"} == WITHOUT_TOKEN
    operators = {one for one, role in roles.items() if role == "operator"}
    assert operators == {one for one in known if one[0] == "POST" or one[1] in FOR_OPERATORS}


def test_every_query_parameter_is_on_the_page() -> None:
    """``line``, ``limit`` and ``before`` are explained once for all; any other stands in its endpoint's row."""
    found = {}
    for path, methods in create_app().openapi()["paths"].items():
        for method, operation in methods.items():
            names = {one["name"] for one in operation.get("parameters", []) if one["in"] == "query"}
            found[method.upper(), path] = names - SHARED
    every = set().union(*found.values())
    rows = {(one[1], one[2]): set(re.findall(r"`\??(\w+)=?`", one[0])) & every for one in WHOLE_ROW.finditer(PAGE)}
    assert rows == found
    explained = PAGE.partition("## Endpoints")[2].partition("| endpoint")[0]
    assert [name for name in sorted(SHARED) if f"`{name}`" not in explained] == []


def test_every_action_of_the_audit_is_on_the_page() -> None:
    served, shell = (_actions(ROOT / name) for name in ("admin", "fleet"))
    both, alone = (set(re.findall(r"`([a-z ]+)`", row)) for row in AUDITED.findall(PAGE))
    assert (both, alone) == (served & shell, shell - served)
    assert served <= shell


def _actions(folder: Path) -> set[str]:
    """What code of the folder says it does."""
    code = "\n".join(path.read_text() for path in folder.rglob("*.py"))
    return {name for call in NOTED.findall(code) for name in re.findall(r'"([a-z][a-z ]*)"', call)}


def test_every_documented_error_is_on_the_page() -> None:
    shown = [int(code) for code in re.findall(r"^\| (\d{3}) \|", PAGE, re.MULTILINE)]
    assert shown == sorted(int(code) for code in PROBLEMS)
