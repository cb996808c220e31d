"""A report's plots as ``svg`` elements of a page that is light or dark as its reader's, and needs nothing else."""

from __future__ import annotations

import io
import re
from html import escape
from typing import Final

from fleet.report_marks import LIGHT, Palette
from fleet.report_plots import WIDTH, draw, heights
from rl.report import Report

VARIABLES: Final = Palette(
    ink="#00010a",
    muted="#00010b",
    grid="#00010c",
    paper="#00010d",
    alarm="#00010e",
    series=tuple(f"#0002{place:02x}" for place in range(len(LIGHT.series))),
)
"""Stand for CSS variables in an SVG, so that one drawing is light or dark as the reader's page is."""


def svg(report: Report, name: str, title: str, description: str) -> str:
    """One plot as an ``svg`` element for a page: colours are CSS variables, and screen readers get the words."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "text.parse_math": False}):
        figure = Figure(figsize=(WIDTH, heights(report)[name]), layout="constrained")
        figure.patch.set_alpha(0)
        draw(name, figure, report, VARIABLES)
        held = io.StringIO()
        figure.savefig(held, format="svg", metadata={"Date": None, "Creator": None})
    return _element(held.getvalue(), name, title, description)


def _element(drawn: str, name: str, title: str, description: str) -> str:
    """The element alone, with ids of its own and nothing that names another host."""
    body = drawn[drawn.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>\s*", "", body, flags=re.DOTALL)
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", body)
    for role in ("ink", "muted", "grid", "paper", "alarm"):
        body = body.replace(str(getattr(VARIABLES, role)), f"var(--{role})")
    for place, color in enumerate(VARIABLES.series):
        body = body.replace(color, f"var(--series-{place})")
    label = f'role="img" aria-labelledby="{name}-title {name}-desc"'
    words = f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-desc">{escape(description)}</desc>'
    body = re.sub(r' (width|height)="[0-9.]+pt"', "", body, count=2)
    return re.sub(r"<svg([^>]*)>", lambda found: f"<svg{found[1]} {label}>{words}", body, count=1)
