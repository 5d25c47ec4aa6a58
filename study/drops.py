"""An experiment's rows, the drops of the ACR in them, and what prose says of a drop."""

import pandas as pd

from study import grid
from study.claims import CONTROLS
from study.intervals import (
    UNDEFINED,
    accuracy_by_seed,
    acr,
    check_paired,
    mean_interval,
    paired_drop,
    pairs,
)
from study.style import TRAINER_NAME

CELL = ["dataset", "trainer", "sigma", "target_class"]


def load(profile, experiment=None):
    """The rows an experiment, or a whole profile, has so far (DataFrame).

    Columns: :func:`study.rows.read_rows`.

    Raises
    ------
    FileNotFoundError
        If it has none.
    """
    rows, _ = grid.rows(profile, experiment)
    if rows is None:
        command = f"make study PROFILE={profile}" + f" EXPERIMENT={experiment}" * bool(experiment)
        raise FileNotFoundError(f"there are no rows yet: {command}")
    return rows


def drop_table(rows, by=CELL, against="none"):
    """ACR of each cell and attack, and its paired drop ``against`` clean data or a control.

    A DataFrame with a line for each; its numbers are numbers, in shares and pixel units. Where the
    clean ACR is 0 nothing can drop: NaN.
    """
    lines = []
    for cell, clean, poisoned in pairs(rows, [*by, "attack"], against):
        acrs = {"ACR clean": acr(clean), "ACR poisoned": acr(poisoned)}
        sizes = {
            "seeds": clean["seed"].nunique(),
            "points": clean["index"].nunique(),
            "n": clean["n"].max(),
        }
        if acrs["ACR clean"]:
            drop = paired_drop(clean, poisoned)
        else:
            check_paired(clean, poisoned)
            drop = UNDEFINED
        lines.append(cell | acrs | drop._asdict() | sizes)
    return pd.DataFrame(lines)


def of_attack(table, attack):
    """The one line of a table of drops that is about an attack (Series)."""
    return table[table["attack"] == attack].iloc[0]


def further_drop(rows, attack, control):
    """What an attack takes off the ACR of a control's victims: a line of :func:`drop_table`."""
    compared = rows[rows["attack"].isin([attack, control])]
    return drop_table(compared, ["trainer"], against=control).iloc[0]


def is_control(table):
    """Which lines are about controls: everything below the bilevel family against the ACR."""
    return table["attack"].isin(CONTROLS)


def strongest_control(drops):
    """The control with the largest drop of a table of drops."""
    return drops[is_control(drops)].sort_values("drop")["attack"].iloc[-1]


def beyond_controls(rows, attack, controls):
    """The further drop of an attack against each of some controls (DataFrame, by control)."""
    return pd.DataFrame({control: further_drop(rows, attack, control) for control in controls}).T


def above_zero(table):
    """Of how many lines of a table of drops the whole interval lies above 0, as text."""
    return f"{(table['low'] > 0).sum()} of {len(table)}"


def mean_lengths(rows, attacks):
    """Mean L2 length of each attack's change (Series like ``attacks``; pixel units, rounded)."""
    return attacks.map(rows.groupby("attack")["l2"].first().round(2))


def fall_of_accuracy(rows, by=("trainer", "attack")):
    """Accuracy of the target class without noise, clean and poisoned, and its fall, paired by seed.

    A DataFrame with a line for each cell: per cent and points, means and deviations over victims.
    """
    lines = []
    for cell, clean, poisoned in pairs(rows, list(by)):
        sides = [100 * accuracy_by_seed(side) for side in (clean, poisoned)]
        fall, low, high = mean_interval(sides[0] - sides[1])
        lines.append(
            cell
            | {"clean": sides[0].mean(), "clean_spread": sides[0].std()}
            | {"poisoned": sides[1].mean(), "poisoned_spread": sides[1].std()}
            | {"fall": fall, "low": low, "high": high, "seeds": len(sides[0])}
        )
    return pd.DataFrame(lines)


# ---- as text ----


def whole(share):
    """A share in whole per cent."""
    return f"{round(100 * share)}"


def ends(cell):
    """An interval of shares, ``low`` to ``high``, in whole per cent, as text."""
    low, high = (round(100 * value) for value in (cell["low"], cell["high"]))
    return f"[{low}, {high}]"


def percent(cell):
    """A drop with its 95 % interval, as text."""
    return f"{whole(cell['drop'])} % {ends(cell)}"


def headline(rows, attack="first_order", against="none"):
    """The numbers that prose names, of one cell and one attack, as text (dict)."""
    compared = rows[rows["attack"].isin([attack, against])]
    (cell,) = drop_table(compared, against=against).to_dict("records")
    shares = ("drop", "low_seeds", "high_seeds", "low", "high")
    settings = rows[rows["attack"] == attack].iloc[0]
    return {
        **{name: whole(cell[name]) for name in shares},
        **{name: f"{100 * cell[name]:.1f}" for name in ("se_seeds", "se_points")},
        **{name: str(cell[name]) for name in ("seeds", "points", "target_class")},
        **{name: f"{settings[name]:g}" for name in ("sigma", "eps_linf", "epochs", "alpha")},
        "acr_clean": f"{cell['ACR clean']:.2f}",
        "acr_poisoned": f"{cell['ACR poisoned']:.2f}",
        "n": f"{cell['n']:,}",
    }


def verdict(profile, experiment, table, threshold, side="above"):
    """A sentence counted from the cells of an experiment that answer its question.

    In how many of them the estimate, and in how many the whole interval, lies on a side of the
    threshold; of a single cell, the drop itself.
    """
    left = _still_to_be_made(profile, experiment)
    if not len(table):
        return f"not known yet, as only the cell to compare with has been run{left}"
    if len(table) == 1:
        return f"the drop of the ACR is {percent(table.iloc[0])}{left}"
    if side == "below":
        return _below(table, threshold) + left
    return _above(table, threshold) + left


def _still_to_be_made(profile, experiment):
    missing = grid.rows(profile, experiment)[1]
    runs = len(grid.load(profile).experiments[experiment])
    return f"; {missing} of {runs} runs are still to be made" if missing else ""


def _below(table, threshold):
    estimates, intervals = (sum(table[name] < threshold) for name in ("drop", "high"))
    return (
        f"the drop of the ACR lies below {whole(threshold)} % "
        f"in {estimates} of {len(table)} cells, "
        f"with its whole interval in {intervals}"
    )


def _above(table, threshold):
    falls = sum(table["low"] > 0)
    least, most = whole(table["drop"].min()), whole(table["drop"].max())
    text = (
        f"the ACR falls in {falls} of {len(table)} cells, judged by the whole interval; "
        f"the drops run from {least} to {most} %"
    )
    if not threshold:
        return text
    estimates, intervals = (sum(table[name] > threshold) for name in ("drop", "low"))
    return (
        f"{text}, {estimates} of them above {whole(threshold)} %, "
        f"and {intervals} with the whole interval"
    )


def in_order_of_trainers(table):
    """Lines by trainer, in the order in which trainers are named everywhere, and by sigma."""
    order = list(dict.fromkeys([*TRAINER_NAME, *table["trainer"]])).index
    by_sigma = table.sort_values("sigma")
    return by_sigma.sort_values("trainer", key=lambda names: names.map(order), kind="stable")
