"""A report as one HTML file: nothing is loaded, no script runs, and it is light or dark as the reader's system is."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from fleet.report_marks import DARK, LIGHT, Palette, shown_types
from fleet.report_svg import svg
from fleet.report_words import chosen, columns, findings, remarks
from rl.report import Count, Point, Report

TITLES = {
    "overall": "Each type and the training score against the overall rate",
    "step": "All against the step",
    "training": "Each type and the overall rate against the training score",
}
ANSWERS = {
    "overall": "Does what is measured as a whole hold for every type, and does training reward what it measures? "
    "Bars hold 80 %.",
    "step": "When was it best, what happened then, and how sure is that? Bands hold 80 %.",
    "training": "Does a better training score mean better results on scenarios that were not trained on? "
    "Bars hold 80 %.",
}
STYLE = """
:root{color-scheme:light dark}
body{margin:0 auto;padding:1.5rem;max-width:62rem;font:16px/1.5 system-ui,sans-serif;color:var(--ink);
background:var(--paper)}
h1{font-size:1.4rem;margin:0 0 .5rem}h2{font-size:1.1rem;margin:2rem 0 .5rem}figure{margin:1.5rem 0}
figcaption,.quiet{color:var(--muted);font-size:.9rem}svg{width:100%;height:auto;display:block}
svg text{font-family:system-ui,sans-serif}.wide{overflow-x:auto}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{padding:.3rem .7rem;text-align:right;border-bottom:1px solid var(--grid);white-space:nowrap}
th:first-child,td:first-child,td.words{text-align:left}td small{color:var(--muted);display:block}
tr.pick{font-weight:600}.alarm{color:var(--alarm)}
"""


def write(report: Report, file: Path) -> None:
    """Write the page to ``file``."""
    file.write_text(page(report), encoding="utf-8")


def page(report: Report) -> str:
    """The whole page."""
    figures = "".join(_figure(report, name) for name in TITLES)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(report.title)}</title><style>{_colors()}{STYLE}</style></head><body>"
        f"<h1>{escape(report.title)}</h1>{_words(report)}{figures}{_table(report)}{_findings(report)}</body></html>\n"
    )


def _colors() -> str:
    dark = f"@media (prefers-color-scheme:dark){{:root{{{_variables(DARK)}}}}}"
    return f":root{{{_variables(LIGHT)}}}{dark}"


def _variables(palette: Palette) -> str:
    roles = {name: str(getattr(palette, name)) for name in ("ink", "muted", "grid", "paper", "alarm")}
    roles |= {f"series-{place}": color for place, color in enumerate(palette.series)}
    return "".join(f"--{name}:{color};" for name, color in roles.items())


def _words(report: Report) -> str:
    """What was chosen and why, and what the held-out set can tell."""
    said = [f"<strong>{escape(chosen(report))}</strong> {escape(report.reason)}."]
    said += [escape(report.decision)] if report.decision else []
    said += [f'<span class="quiet">Judged on {escape(report.judged_on)}.</span>']
    said += [f'<span class="quiet">{escape(report.size.statement)}</span>'] if report.size else []
    return "".join(f"<p>{one}</p>" for one in said)


def _figure(report: Report, name: str) -> str:
    """A plot with the words of its caption; alarms and numbers are in its description too."""
    title = TITLES[name].replace("the step", f"the {report.axis}")
    left = len(report.types) - len(shown_types(report))
    more = f" {left} more types are in the table." if left else ""
    drawn = svg(report, name, title, _described(report))
    return f"<figure>{drawn}<figcaption>{escape(ANSWERS[name] + more)}</figcaption></figure>"


def _described(report: Report) -> str:
    """The overall rate and training score of every checkpoint, for those who cannot see them."""
    return "; ".join(_spoken(one) for one in report.points) + ". " + chosen(report)


def _spoken(one: Point) -> str:
    rate = "no verdicts" if one.overall is None else f"overall {one.overall.k} of {one.overall.n}"
    return f"{one.label}: {rate}" + ("" if one.training_score is None else f", training score {one.training_score:g}")


def _table(report: Report) -> str:
    """Counts with intervals below them, a row for each checkpoint."""
    head = "".join(f'<th scope="col">{escape(one)}</th>' for one in columns(report))
    rows = "".join(_row(report, one) for one in report.points)
    caption = "right of all verdicts; the interval below holds 80 %"
    return (
        f'<h2>Counts</h2><div class="wide"><table><caption class="quiet">{caption}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _row(report: Report, one: Point) -> str:
    cells = [_count(one.types.get(name)) for name in report.types] + [_count(one.overall)]
    cells.append("" if one.training_score is None else f"{one.training_score:.4g}")
    cells.append(f"{one.coverage:.0%}")
    body = "".join(f"<td>{cell}</td>" for cell in cells)
    remark = f'<td class="words">{escape(", ".join(remarks(report, one)))}</td>'
    kind = ' class="pick"' if one.picked else ""
    return f'<tr{kind}><th scope="row">{escape(one.label)}</th>{body}{remark}</tr>'


def _count(count: Count | None) -> str:
    if count is None:
        return "no verdicts"
    return f"{count.k}/{count.n}<small>{count.low:.2f} to {count.high:.2f}</small>"


def _findings(report: Report) -> str:
    return "".join(_list(title, words) for title, words in findings(report).items())


def _list(title: str, words: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(one)}</li>" for one in words)
    return f"<h2>{escape(title)}</h2><ul>{items}</ul>" if words else ""
