"""The ledger of claims: what the paper and this study say, and a verdict by a rule.

``data/claims.yaml`` holds the claims and their rules, written beforehand, ``data/claims.json`` the
committed ledger. Every number and verdict is computed from rows; ``python -m study.claims`` prints
the ledger and exits with 1 where the committed one disagrees.
"""

import argparse
import json
import math
import sys
import textwrap

import pandas as pd
import yaml

from study import grid, theory_claims
from study.results import ROOT, write_json
from study.statistics import CONTROLS as CONTROLS
from study.statistics import STATISTICS as OF_GRID
from study.statistics import published as published

CLAIMS, LEDGER = ROOT / "data" / "claims.yaml", ROOT / "data" / "claims.json"
PROFILES = ("paper", "laptop")
STATISTICS = OF_GRID | theory_claims.STATISTICS


def verdict(cells, missing, above=None, below=None):
    """Whether the cells of a claim are on its side of the threshold.

    Parameters
    ----------
    cells : list of Cell
    missing : int
        How many more there would be if the profile was complete.
    above, below : float, optional
        The claimed side, or both ends of a range.

    Returns
    -------
    str
        ``reproduced``: every cell's whole interval is on the claimed side and none is missing.
        ``not reproduced``: no estimate is on the claimed side. ``not run``: no rows. Everything
        between is ``partly``.
    """
    if not cells:
        return "not run"
    least = -math.inf if above is None else above
    most = math.inf if below is None else below
    if all(least < cell.low and cell.high < most for cell in cells) and not missing:
        return "reproduced"
    some = any(least < cell.estimate < most for cell in cells)
    return "partly" if some else "not reproduced"


def assess(claim, profile):
    """One line of the ledger: a claim with its cells and verdict on one profile."""
    rows, options = _rows(claim, profile)
    cells = []
    if rows is not None:
        statistic = STATISTICS[claim["statistic"]]
        cells = list(statistic(_chosen(rows, claim), claim["by"], **options))
    missing = claim["cells"][profile] - len(cells)
    outcome = verdict(cells, missing, claim.get("above"), claim.get("below"))
    line = {name: claim[name] for name in ("id", "claim", "source", "rule", "statistic")}
    return line | {
        "profile": profile,
        "verdict": outcome,
        "rows": claim["files"][profile] if "files" in claim else claim["experiment"],
        "missing_cells": missing,
        "cells": [_rounded(cell) for cell in cells],
    }


def _rows(claim, profile):
    """Rows of a claim's experiment, or of its file, None if there are none; and its options."""
    options = claim.get("options", {})
    if "files" in claim:
        path = ROOT / claim["files"][profile]
        return pd.read_csv(path) if path.exists() else None, options | {"path": path}
    if claim["experiment"] not in grid.load(profile).experiments:
        return None, options
    return grid.rows(profile, claim["experiment"])[0], options


def _chosen(rows, claim):
    """The rows that a claim is about."""
    for name, value in claim.get("unless", {}).items():  # another column, or a value
        rows = rows[rows[name] != (rows[value] if value in rows else value)]
    if "besides" in claim:
        # The cell that the others are compared with says nothing about the claim.
        compared = pd.Series(claim["besides"])
        rows = rows[(rows[list(compared.index)] != compared).any(axis=1)]
    for name, values in claim.get("where", {}).items():
        rows = rows[rows[name].isin(values if isinstance(values, list) else [values])]
    return rows


def _rounded(cell):
    """A cell as the ledger holds it: four decimals, and no minus before a zero."""
    numbers = {name: getattr(cell, name) for name in ("estimate", "low", "high")}
    return cell._asdict() | {name: round(float(x), 4) + 0.0 for name, x in numbers.items()}


def ledger():
    """The whole ledger, computed from the rows."""
    claims = yaml.safe_load(CLAIMS.read_text())
    return [assess(claim, profile) for claim in claims for profile in claim["cells"]]


def disagreements(computed, committed):
    """One sentence for each line whose verdict, cells or numbers are not those committed."""
    before = {(line["id"], line["profile"]): line for line in committed}
    for line in computed:
        key = line["id"], line["profile"]
        if key not in before:
            yield f"{' '.join(key)}: not in the committed ledger"
        elif line != before.pop(key):
            found = f"the rows say {line['verdict']}, {_numbers(line)}"
            yield f"{' '.join(key)}: {found}; the committed ledger differs"
    yield from (f"{' '.join(key)}: in the committed ledger only" for key in before)


def text(line):
    """A line of the ledger for the terminal: its verdict, and below it the numbers."""
    indent = " " * 16
    numbers = textwrap.fill(_numbers(line), 110, initial_indent=indent, subsequent_indent=indent)
    return f"{line['verdict']:<15} {line['id']}, {line['profile']}\n{numbers}"


def _numbers(line):
    cells = []
    for cell in line["cells"]:
        estimate, low, high = (shown(cell[name]) for name in ("estimate", "low", "high"))
        cells.append(f"{cell['cell']}: {estimate} [{low}, {high}]")
    return "; ".join(cells) or "no rows"


def shown(value):
    """Two decimals, and no minus before a zero."""
    return f"{round(value, 2) + 0.0:.2f}"


def main():
    parser = argparse.ArgumentParser(
        prog="python -m study.claims",
        description="Print the ledger of claims and compare it with the committed one.",
    )
    parser.add_argument("--write", action="store_true", help="write data/claims.json as rows say")
    write, computed = parser.parse_args().write, ledger()
    print(*map(text, computed), sep="\n")
    if write:
        write_json(LEDGER, computed)
    committed = json.loads(LEDGER.read_text()) if LEDGER.exists() else []
    found = list(disagreements(computed, committed))
    print("\n".join(found), file=sys.stderr)
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
