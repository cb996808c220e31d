"""Tables that a phone shows as cards: each cell knows the head of its column, and stays a cell for screen readers."""

from __future__ import annotations

import re
from collections.abc import Callable

from markupsafe import Markup, escape

TAG = re.compile(r"<(table|thead|tbody|tr|th|td)\b([^>]*)>")
HEAD = re.compile(r'<th scope="col"[^>]*>(.*?)</th>', re.DOTALL)
BLANK = re.compile(r"(<td\b[^>]*>)\s+(</td>)")
SPAN = re.compile(r'colspan="(\d+)"')
ROLES = {"table": "table", "thead": "rowgroup", "tbody": "rowgroup", "tr": "row"}


def stacked(table: str) -> Markup:
    """``table``, one whole table of a template, with ``data-label`` on its cells and a role on every element.

    A style sheet that gives its parts another ``display`` takes their meaning from screen readers; roles keep it. A
    cell over several columns gets no label.
    """
    heads = [escape(Markup(found).striptags()) for found in HEAD.findall(table)]  # noqa: S704 - as below
    return Markup(TAG.sub(_labelled(heads), BLANK.sub(r"\1\2", table)))  # noqa: S704 - the template escaped it


def _labelled(heads: list[Markup]) -> Callable[[re.Match[str]], str]:
    """Writes a tag with its role and label; called for all tags of a table in their order."""
    column = 0

    def write(tag: re.Match[str]) -> str:
        nonlocal column
        name, given = tag.groups()
        if name in ROLES:
            column = 0
            return f'<{name}{given} role="{ROLES[name]}">'
        at, span = column, SPAN.search(given)
        column += int(span[1]) if span else 1
        if name == "th":
            role = "columnheader" if 'scope="col"' in given else "rowheader"
            return f'<th{given} role="{role}">'
        label = f' data-label="{heads[at]}"' if at < len(heads) and not span else ""
        return f'<td{given}{label} role="cell">'

    return write
