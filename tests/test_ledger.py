"""The picture of the ledger: what is drawn, and where."""

from xml.etree import ElementTree

import html5lib
import pytest

from study.figures.ledger import REACH, WIDE, ledger_html, margins, strip
from study.numbers import claims

ABOVE, BELOW, BETWEEN = {"above": 0.3}, {"below": 0.1}, {"above": -0.1, "below": 0.1}


def cell(estimate, low, high, name="first_order"):
    return {"cell": name, "estimate": estimate, "low": low, "high": high, "seeds": 3}


def line(name, cells, source="paper, table 2", missing=0, profile="laptop"):
    texts = {"claim": f"<{name}>", "rule": "the drop is above 30 %", "verdict": "partly"}
    return texts | {
        "id": name,
        "source": source,
        "profile": profile,
        "cells": cells,
        "missing_cells": missing,
        "rows": "ladder",
    }


@pytest.mark.parametrize(
    "rule, values, expected",
    [
        (ABOVE, (0.5, 0.2, 0.6), (-0.1, 0.2, 0.3)),
        (BELOW, (0.05, -0.2, 0.3), (-0.2, 0.05, 0.3)),
        (BETWEEN, (0.08, 0.05, 0.15), (-0.05, 0.02, 0.05)),
        (BETWEEN, (-0.3, -0.4, 0.0), (-0.3, -0.2, 0.1)),
        (BELOW, (0.05, 0.0, float("inf")), (float("-inf"), 0.05, 0.1)),
    ],
)
def test_a_margin_is_on_the_claimed_side(rule, values, expected):
    assert margins(cell(*values), rule) == pytest.approx(expected)


def drawn(cells, rule):
    """Places of dots and of ends in a strip, px."""
    (svg,) = ElementTree.fromstring(f"<p>{strip(line('a', cells), rule)}</p>")
    dots = [float(dot.get("cx")) for dot in svg.iter("circle")]
    ends = [(float(x.get("x1")), float(x.get("x2"))) for x in svg.iter("line")][1:]
    return svg, dots, ends


def test_a_strip_shows_each_cell_beside_the_threshold():
    svg, dots, ends = drawn([cell(0.3, 0.2, 0.4), cell(0.1, 0.0, 0.2), cell(9, -9, 9)], ABOVE)
    point = WIDE / 2 * 0.97 / REACH  # px
    assert dots[:2] == pytest.approx([WIDE / 2, WIDE / 2 - 20 * point], abs=0.06)
    assert ends[0] == pytest.approx((WIDE / 2 - 10 * point, WIDE / 2 + 10 * point), abs=0.06)
    assert 0 < min(map(min, ends)) and max(map(max, ends)) < WIDE  # what is beyond ends inside
    assert svg.get("aria-label") == "1 of 3 estimates on the claimed side"


def test_a_claim_opens_to_its_rule_and_numbers():
    lines = [line("run", [cell(0.5, -0.001, 0.6)], missing=1), line("own", [], "this study")]
    page = html5lib.parseFragment(
        ledger_html(lines, {"run": ABOVE, "own": ABOVE}), namespaceHTMLElements=False
    )
    first, second = page.iter("details")
    text = "".join(first.itertext())
    for said in ("<run>", "the drop is above 30 %", "1 of 2 cells", "EXPERIMENT=ladder"):
        assert said in text
    assert [td.text for td in first.iter("td")] == ["first order", "0.50 [0.00, 0.60]", "3 seeds"]
    assert [title.text for title in page.iter("h2")] == ["The paper's claims", "This study's"]
    assert list(second.iter("circle")) == [] and "<own>" in "".join(second.itertext())


def test_the_page_shows_every_claim_by_the_profiles_that_ran_it():
    page = html5lib.parseFragment(claims.picture().data, namespaceHTMLElements=False)
    names = [opened.get("id") for opened in page.iter("details")]
    lines = claims.ledger()
    run = [f"claim-{entry['id']}-{entry['profile']}" for entry in lines if entry["cells"]]
    assert set(run) <= set(names) and len(names) == len(set(names))
    assert {entry["id"] for entry in lines} == {
        name.split("-", 1)[1].rsplit("-", 1)[0] for name in names
    }
