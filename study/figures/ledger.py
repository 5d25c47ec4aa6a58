"""The ledger as a picture that opens: of each claim its cells against the threshold of its rule."""

from html import escape
from math import inf

from study.claims import shown
from study.style import GREEN, GREY, ORANGE, VERMILION, spaced

WIDE, HIGH, REACH = 240, 9, 60  # px of a strip and of a cell in it; per cent points to each side
COLOUR = {"reproduced": GREEN, "partly": ORANGE, "not reproduced": VERMILION, "not run": GREY}
SHAPE = {"reproduced": "●", "partly": "▲", "not reproduced": "■", "not run": "○"}
AXIS = "Each strip: the rule's threshold (line), and left of it what speaks against the claim."


def ledger_html(lines, rules):
    """A line a claim, which opens to its rule, cells, rows and command.

    Parameters
    ----------
    lines : list of dict
        Of ``data/claims.json``.
    rules : dict
        The claims of ``data/claims.yaml`` by their names.

    Returns
    -------
    str
    """
    groups = {"The paper's claims": [], "This study's": []}
    for line in lines:
        paper = line["source"].startswith("paper")
        groups[next(name for name in groups if ("paper" in name) == paper)].append(line)
    parts = [f"<p>{AXIS}</p>"]
    for name, members in groups.items():
        parts.append(f"<h2>{name}</h2>")
        parts += [claim_html(line, rules[line["id"]]) for line in members]
    return f'<div class="ledger">{"".join(parts)}</div>'


def claim_html(line, rule):
    """One claim of the ledger."""
    verdict = line["verdict"]
    said = f"{SHAPE[verdict]} <b>{verdict}</b> {escape(line['claim'])} <i>({line['profile']})</i>"
    head = f"<summary><span>{said}</span>{strip(line, rule)}</summary>"
    where = f'<details id="claim-{line["id"]}-{line["profile"]}">'
    return f"{where}{head}{_opened(line)}</details>"


def _opened(line):
    planned = len(line["cells"]) + line["missing_cells"]
    cells = "".join(map(_cell, line["cells"]))
    table = f"<table><tbody>{cells}</tbody></table>" if cells else ""
    made = f"{len(line['cells'])} of {planned} cells, profile {line['profile']}"
    return (
        f"<p>Rule: {escape(line['rule'])}. <i>{escape(line['source'])}</i></p>{table}"
        f"<p>{made}. <code>{_command(line)}</code></p>"
    )


def _cell(cell):
    value, low, high = (shown(cell[name]) for name in ("estimate", "low", "high"))
    seeds = f"{cell['seeds']} seeds"
    row = (escape(spaced(cell["cell"])), f"{value} [{low}, {high}]", seeds)
    return "<tr>" + "".join(f"<td>{text}</td>" for text in row) + "</tr>"


def _command(line):
    """How the rows are made: by their experiment, or the file that holds them."""
    if line["rows"].startswith("data/"):
        return escape(line["rows"])
    return f"make study PROFILE={line['profile']} EXPERIMENT={line['rows']}"


def strip(line, rule):
    """The cells of a claim beside the threshold of its rule, as SVG.

    Its unit is the per cent point, on the claimed side to the right.
    """
    cells, colour = line["cells"], COLOUR[line["verdict"]]
    high = HIGH * max(1, len(cells)) + 2
    marks = [f'<line x1="{WIDE / 2}" x2="{WIDE / 2}" y1="0" y2="{high}" stroke="{GREY}"/>']
    for row, cell in enumerate(cells):
        y = HIGH * (row + 0.5) + 1
        left, dot, right = map(_place, margins(cell, rule))
        marks.append(
            f'<line x1="{left}" x2="{right}" y1="{y}" y2="{y}" stroke="{colour}" stroke-width="2"/>'
            f'<circle cx="{dot}" cy="{y}" r="3" fill="{colour}"/>'
        )
    above = sum(margins(cell, rule)[1] > 0 for cell in cells)
    label = f"{above} of {len(cells)} estimates on the claimed side"
    size = f'viewBox="0 0 {WIDE} {high}" width="{WIDE}" height="{high}"'
    return f'<svg role="img" aria-label="{label}" {size}>{"".join(marks)}</svg>'


def margins(cell, rule):
    """How far a cell's interval and estimate lie on the claimed side: low, estimate, high.

    In the unit of the statistic; of a rule with two ends, to the nearer one.
    """
    above, below = rule.get("above", -inf), rule.get("below", inf)
    ends = [min(x - above, below - x) for x in (cell["low"], cell["estimate"], cell["high"])]
    return min(ends), ends[1], max(ends)


def _place(margin):
    """The place of a margin in a strip, px; what lies outside ends at its edge."""
    points = max(-REACH, min(REACH, 100 * margin))
    return round(WIDE / 2 * (1 + points / REACH * 0.97), 1)
