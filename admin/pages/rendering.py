"""Templates, and what every page gets: who looks, the menu, and the word that its forms carry."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi.templating import Jinja2Templates
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from admin.access import Caller
from admin.errors import refused_of
from admin.pages.formats import FILTERS
from admin.pages.tables import stacked

MENU = (
    ("/", "Overview"),
    ("/windows", "Windows"),
    ("/jobs", "Jobs"),
    ("/trajectories", "Trajectories"),
    ("/versions", "Versions"),
    ("/releases", "Releases"),
    ("/runs", "Runs"),
    ("/environments", "Environments"),
)
"""Path and title of what the menu lists."""

_environment = Environment(
    loader=FileSystemLoader(Path(__file__).parent.parent / "templates"),
    autoescape=select_autoescape(default=True),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters.update(FILTERS, stacked=stacked)
templates = Jinja2Templates(env=_environment)


def page(request: Request, template: str, caller: Caller | None, status: int = 200, **values: Any) -> Response:
    """The page for ``caller``, or for somebody who is not known yet."""
    shared = {
        "caller": caller,
        "menu": MENU,
        "flower_url": request.app.state.settings.flower_url,
        "word": caller.form_word if caller else "",
        "may_act": caller is not None and caller.holder.may("operator"),
    }
    return templates.TemplateResponse(request, template, shared | values, status_code=status)


def page_error(request: Request, error: Exception) -> Response:
    """The page for an error; who is not known is asked for a token first."""
    refused = refused_of(error)
    if refused.status_code == 401:
        asked = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(f"/login?next={quote(asked if request.method == 'GET' else '/')}", 303)
    status = refused.status_code
    values = {"code": status, "error": refused.detail, "remedy": refused.remedy}
    answer = page(request, "error.html", getattr(request.state, "caller", None), status, **values)
    answer.headers.update(refused.headers or {})
    return answer
