"""What the attack costs until it does harm: its poison on the way, and parts that survive a kill.

Cost is counted in gradient evaluations: one is one image through the forward and backward pass of
the inner problem; see :mod:`study.evaluations`.
"""

from contextlib import suppress
from dataclasses import asdict

import pandas as pd
import torch

from pacd.approxgrad import PUBLISHED
from pacd.poison_file import to_8bit
from study.checkpoint import checkpoint
from study.evaluations import Count, clock, peak_memory, reset_peak_memory
from study.setup import chosen_attack
from study.statistics import DROP


class Spent(Exception):
    """The budget is used up."""


class Snapshots:
    """The poison at evaluations that grow by a factor, as an attack's ``watch``.

    Parameters
    ----------
    problem : pacd.attack.Problem
    count : Count
        What the attack has spent.
    units : dict
        Gradient evaluations of an image in each kind of pass.
    steps : int
        After so many poison steps there is a last snapshot.
    first : float
        Gradient evaluations before the first snapshot.
    growth : float
        Of the evaluations between two snapshots: the cost is known to this factor.
    budget : float
        Gradient evaluations at which the attack is stopped, after a snapshot.

    Attributes
    ----------
    taken : list of dict
        For each snapshot its step, evaluations, images of each kind, seconds and peak memory (MB)
        since the start, and the poison as ``index`` (m,) and 8-bit ``images`` (m, C, H, W).
    """

    def __init__(self, problem, count, units, *, steps, first, growth, budget):
        self.splits, self.eps_linf = problem.splits, problem.eps_linf
        self.count, self.units = count, units
        self.steps, self.due, self.growth, self.budget = steps, first, growth, budget
        self.device, self.taken = self.splits.x_train.device, []
        reset_peak_memory(self.device)
        self.started = clock(self.device)

    def __call__(self, step, index, images):
        evaluations = self.count.evaluations(self.units)
        seconds = clock(self.device) - self.started
        if evaluations >= min(self.due, self.budget) or step + 1 == self.steps:
            spent = {"step": step + 1, "evaluations": evaluations, "seconds": seconds}
            spent |= {"memory": peak_memory(self.device), **self.count.images}
            self.taken.append(spent | self._poison(index, images))
            self.due = self.growth * evaluations
            self.started = clock(self.device) - seconds  # a snapshot is not part of the attack
        if evaluations >= self.budget:
            raise Spent

    def _poison(self, index, images):
        return {
            "index": index.cpu(),
            "images": eight_bit(self.splits, index, images, self.eps_linf),
        }


def snapshots(problem, name, options, units, *, steps, **when):
    """Snapshots of one setting of the attack, ``steps`` long if its budget lasts.

    Parameters
    ----------
    problem : pacd.attack.Problem
    name : str
        Key of the attacks.
    options : dict
        Of :class:`pacd.attack.Method`; ApproxGrad takes those that it has too.
    units, steps, **when
        See :class:`Snapshots`.

    Returns
    -------
    list of dict
        See :class:`Snapshots`.
    """
    count = Count(problem.loss, problem.make_model)
    counted = problem._replace(loss=count.loss, make_model=count.make_model)
    watch = Snapshots(problem, count, units, steps=steps, **when)
    options = known_options(name, options)
    with count.all_solvers(), suppress(Spent):
        chosen_attack(name, options)(counted, steps=steps, seed=0, watch=watch)
    return watch.taken


def known_options(name, options):
    """Options of :class:`pacd.attack.Method`, or those of them that ApproxGrad has too."""
    known = asdict(PUBLISHED[name]) if name in PUBLISHED else options
    return {option: value for option, value in options.items() if option in known}


def control(problem, name, options, steps):
    """The poison of a control, as ``index`` and 8-bit ``images``; a learned one takes ``steps``."""
    index, images, _ = chosen_attack(name, options)(problem, steps=steps, seed=0)
    rounded = eight_bit(problem.splits, index, images, problem.eps_linf)
    return {"index": index.cpu(), "images": rounded}


def eight_bit(splits, index, images, eps_linf):
    """Poison rounded to 8 bits inside the ball, uint8 (m, C, H, W)."""
    return torch.from_numpy(to_8bit(images, splits.x_train[index], eps_linf))


def poisoned(splits, poison):
    """The training images with a poison in its places, (N, C, H, W)."""
    x, index = splits.x_train, poison["index"].to(splits.x_train.device)
    return x.index_copy(0, index, poison["images"].to(x) / 255)


def until_dropped(snapshots, measure):
    """Measure the snapshots in order up to the first that reaches the drop, and the last one.

    Parameters
    ----------
    snapshots : list
    measure : callable
        ``snapshot -> dict`` with its ``drop``.

    Returns
    -------
    measured : list of dict
        What was measured and what was spent.
    reached : dict or None
        The first of them with a drop of ``DROP`` or more.
    """
    measured, reached = [], None
    for snapshot in snapshots:
        if reached is None or snapshot is snapshots[-1]:
            spent = {name: snapshot[name] for name in snapshot if name not in ("index", "images")}
            measured.append({**spent, **measure(snapshot)})
        if reached is None and measured[-1]["drop"] >= DROP:
            reached = measured[-1]
    return measured, reached


def rows_of(units, seconds, snapshots, controls, solvers):
    """All that a run found as one table; its column ``kind`` tells its parts apart.

    Parameters
    ----------
    units, seconds : dict
        What one image costs in each kind of pass, in operations and by time.
    snapshots, controls, solvers : list of dict

    Returns
    -------
    DataFrame
    """
    costs = {"operations": units, "time": seconds}
    tables = {
        "unit": pd.DataFrame(costs).rename_axis("case").reset_index(),
        "snapshot": pd.DataFrame(snapshots),
        "control": pd.DataFrame(controls),
        "solver": pd.DataFrame(solvers),
    }
    return pd.concat([table.assign(kind=kind) for kind, table in tables.items()])


def note(name, measured, reached):
    """A sentence about a setting that did not get there, as a list; none about one that did."""
    if reached:
        return []
    last = measured[-1]
    return [
        f"{name}: a drop of {DROP:.0%} was not reached within {last['evaluations']:,.0f} "
        f"gradient evaluations ({last['step']} poison steps)"
    ]


class Parts:
    """Parts of a long run, each on disk once it is done: a killed run makes none of them twice.

    Parameters
    ----------
    settings, *data
        What tells this run from others; see :func:`study.checkpoint.checkpoint`.
    """

    def __init__(self, settings, *data):
        self.given, self.kept = (settings, *data), []

    def __call__(self, label, make, *arguments, **options):
        """What ``make`` returns of numbers, texts, lists, dicts and tensors, or has returned."""
        saved = checkpoint(*self.given, label)
        saved.every = 0  # a part is whole, and worth its file however short it was
        done = saved.resume([], [])
        if not done:
            done = [make(*arguments, **options)]
            saved.keep([], done, last=True)
        self.kept.append(saved)
        return done[0]

    @property
    def seconds(self):
        """What the parts took that were made before a kill."""
        return sum(saved.seconds for saved in self.kept)

    def remove(self):
        """Delete all files; when the result is on disk."""
        for saved in self.kept:
            saved.remove()
