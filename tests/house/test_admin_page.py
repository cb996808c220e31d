"""The page about the admin API lists every endpoint, with the role that it takes."""

from __future__ import annotations

import re
from pathlib import Path

from admin.api.shapes import PROBLEMS
from admin.app import create_app

PAGE = (Path(__file__).parents[2] / "docs" / "admin.md").read_text()
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


def test_every_documented_error_is_on_the_page() -> None:
    shown = [int(code) for code in re.findall(r"^\| (\d{3}) \|", PAGE, re.MULTILINE)]
    assert shown == sorted(int(code) for code in PROBLEMS)
