"""The ledger of claims."""

import json

import yaml
from IPython.display import HTML

from study.claims import CLAIMS, LEDGER
from study.figures.ledger import ledger_html
from study.grid import rows_files

PROFILE = "laptop"
EXPERIMENTS = ()
VERDICTS = ("reproduced", "partly", "not reproduced", "not run")


def ledger():
    """The committed ledger, a dict for each claim and profile."""
    return json.loads(LEDGER.read_text())


def verdicts(lines, source=""):
    """How many claims of a source have each verdict (dict).

    Each claim counts once, by the last profile that has run it.
    """
    last = {}
    for line in lines:
        if not line["source"].startswith(source):
            continue
        if line["cells"] or line["claim"] not in last:
            last[line["claim"]] = line["verdict"]
    return {verdict: list(last.values()).count(verdict) for verdict in VERDICTS}


def numbers(profile=PROFILE):
    """How the claims stand (dict)."""
    lines = ledger()
    counts = verdicts(lines)
    return {
        **{verdict.replace(" ", "_"): count for verdict, count in counts.items()},
        "claims": sum(counts.values()),
        "former": former_cost(lines, profile),
    }


def former_cost(lines, profile):
    """The claim about cost by its former bounds, the spacing of the snapshots to both sides."""
    (line,) = [
        line for line in lines if line["id"] == "tenth-of-the-cost" and line["profile"] == profile
    ]
    cost = line["cells"][0]["estimate"]
    path, *_ = rows_files(profile, "cost").values()
    manifest = json.loads(path.with_suffix(".json").read_text())
    growth = manifest["parameters"]["growth"]
    return f"{cost:.2f} [{cost / growth:.2f}, {cost * growth:.2f}]"


def picture():
    """The whole ledger for readers; of a claim that was run, the profiles that ran it."""
    lines = ledger()
    run = {line["id"] for line in lines if line["cells"]}
    shown = [line for line in lines if line["cells"] or line["id"] not in run]
    rules = {claim["id"]: claim for claim in yaml.safe_load(CLAIMS.read_text())}
    return HTML(ledger_html(shown, rules))
