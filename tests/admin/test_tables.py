"""Tables as cards: each cell with the head of its column, and roles that another ``display`` does not take away."""

from __future__ import annotations

from markupsafe import Markup

from admin.pages.tables import stacked


def test_cells_get_the_head_of_their_column_and_all_get_roles() -> None:
    table = (
        '<table><caption>All</caption><thead><tr><th scope="col">Job</th><th scope="col" class="num">A &amp; <b>B</b>'
        '</th></tr></thead><tbody><tr><th scope="row">1</th><td class="num">2</td></tr><tr><td colspan="2">none</td>'
        "</tr></tbody></table>"
    )
    assert stacked(table) == Markup(
        '<table role="table"><caption>All</caption><thead role="rowgroup"><tr role="row">'
        '<th scope="col" role="columnheader">Job</th>'
        '<th scope="col" class="num" role="columnheader">A &amp; <b>B</b></th></tr></thead>'
        '<tbody role="rowgroup"><tr role="row"><th scope="row" role="rowheader">1</th>'
        '<td class="num" data-label="A &amp; B" role="cell">2</td></tr>'
        '<tr role="row"><td colspan="2" role="cell">none</td></tr></tbody></table>'
    )


def test_a_head_cannot_end_its_attribute_and_blank_cells_are_empty() -> None:
    table = '<table><tr><th scope="col">a &#34; b</th></tr><tr><td>\n  </td></tr></table>'
    assert '<td data-label="a &#34; b" role="cell"></td>' in stacked(table)
