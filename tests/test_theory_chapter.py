"""The chapter: every statement is proved, named and tested, and no test passes a wrong formula."""

import inspect
import re
import types
from pathlib import Path

import pytest
import test_theory
import test_theory_first_layer
import test_theory_poison
import test_theory_projection

from study import theory, theory_first_layer, theory_projection

CHAPTER = Path(__file__).resolve().parents[1] / "book" / "theory"
MODULES = (theory, theory_first_layer, theory_projection)
TESTS = (test_theory, test_theory_poison, test_theory_first_layer, test_theory_projection)
KINDS = "(?:lemma|proposition|theorem|corollary)"

# What is wrong, the line that it changes, and the test of its own that must fail.
MUTANTS = {
    "the fraction of the reach is forgotten": (
        "return rho * eps * (np.sqrt(k)",
        "return eps * (np.sqrt(k)",
        "test_reach_of_the_mean",
    ),
    "the cube lies in a ball of radius k r": ("(np.sqrt(k) if", "(k if", "test_reach_of_the_mean"),
    "the class spreads by rho^2": (
        "summary.p * rho * spread",
        "summary.p * rho**2 * spread",
        "test_summary_after_a_partial_shift",
    ),
    "the class spreads by rho / 2": (
        "spread = (1 - rho) *",
        "spread = 0.5 *",
        "test_summary_after_a_partial_shift",
    ),
    "the mean moves by rho^2": (
        "d=summary.d + rho * v",
        "d=summary.d + rho**2 * v",
        "test_summary_after_a_partial_shift",
    ),
    "the own mean of those that move is forgotten": (
        "np.outer(v, v) + cross + cross.T",
        "np.outer(v, v)",
        "test_summary_after_a_partial_shift",
    ),
    "a coordinate without a difference stays": (
        "return np.where(d < 0, -1.0, 1.0)",
        "return np.sign(d)",
        "test_pixels_without_difference_move",
    ),
    "a black pixel is told to go down": (
        "return np.where(d < 0, -1.0, 1.0)",
        "return np.where(d <= 0, -1.0, 1.0)",
        "test_black_background_costs_nothing",
    ),
    "a loose threshold, D^2 -+ r D": (
        "if s * (D + s * r) ** 2 > s * c",
        "if s * (D**2 + s * r * D) > s * c",
        "test_where_the_second_optimum_is",
    ),
    "the other end of the ball": (
        "s = 1 if c <= D**2 - r**2 else -1",
        "s = 1 if c <= D**2 else -1",
        "test_optimum_in_a_ball_is_unique",
    ),
    "half of Phi's argument": (
        "ndtr(D / (2 * s)) * np.linalg.norm(d, dual)",
        "ndtr(D / (4 * s)) * np.linalg.norm(d, dual)",
        "test_fraction_below_the_tangent",
    ),
    "the smallest eigenvalue for beta": (
        "np.linalg.eigvalsh(rule.B)[-1]",
        "np.linalg.eigvalsh(rule.B)[0]",
        "test_the_floor_is_attained",
    ),
    "h is dropped": ("- top * r**2 - 2 * rule.h", "- top * r**2", "test_the_floor_is_attained"),
    "half the shift in the floor": (
        "(np.linalg.norm(Bd) + top * r)",
        "(np.linalg.norm(Bd) + top * r / 2)",
        "test_the_floor_is_attained",
    ),
    "omega is 0": (
        "move = eps * np.sqrt(rho * summary.p)",
        "move = 0.0",
        "test_spread_by_single_points",
    ),
    "omega without the square root of p": (
        "move = eps * np.sqrt(rho * summary.p)",
        "move = eps * np.sqrt(rho)",
        "test_spread_by_single_points",
    ),
    "h is dropped from the floor of points": (
        "- r**2 / low - (1 - 2 * p) / (p * (1 - p))",
        "- r**2 / low",
        "test_floor_of_points_without_poison",
    ),
    "the prefactor is dropped": (
        "return low * surplus / (2 * (D + r))",
        "return surplus / (2 * (D + r))",
        "test_floor_of_points_without_poison",
    ),
    "the shift is measured by the largest variance": (
        "- r**2 / low - (1",
        "- r**2 / high - (1",
        "test_floor_of_points_without_poison",
    ),
    "the ball's floor for the cube's": (
        "return best_shift_cube(d, r, 0.0)[1]",
        "return (np.linalg.norm(d) - r * np.sqrt(len(d))) / 2",
        "test_floor_in_the_cube",
    ),
    "a floor without a limit of r": (
        "if r >= np.linalg.norm(summary.d):",
        "if False:",
        "test_floor",
    ),
    "a negative cap": ("sigma * max(0.0, ndtr", "sigma * (ndtr", "test_radius_cap"),
    "the larger class flips": (
        "if not (0 < p < 0.5 and 0 <= r < D)",
        "if False",
        "test_the_switch_on_a_line",
    ),
    "a trap by the flattest slope": (
        "np.max(np.abs(d) + r)",
        "np.min(np.abs(d) + r)",
        "test_which_corners_are_traps",
    ),
    "a turn by its sine alone": (
        "return abs(signed_distance(foot, *poisoned)) + turn",
        "return abs(signed_distance(foot, *poisoned)) + turn / 2",
        "test_change_of_the_radius",
    ),
    "the offset is measured at the point": (
        "return abs(signed_distance(foot, *poisoned))",
        "return 0.9 * abs(signed_distance(foot, *poisoned))",
        "test_change_of_the_radius",
    ),
    "gamma for kappa": (
        "return gamma / (1 + gamma)",
        "return gamma",
        "test_penalty_is_one_more_point",
    ),
    "the intercept is as without a penalty": (
        "b = (1 - kappa) * (2 * p - 1 - a @ w)",
        "b = 2 * p - 1 - a @ w",
        "test_penalty_is_one_more_point",
    ),
    "the class sizes do not act through a": (
        "+ kappa * (2 * p - 1) * a",
        "",
        "test_penalty_is_one_more_point",
    ),
    "the share's denominator": (
        "((1 + kappa * a @ B @ a) * (v @ B @ v))",
        "((1 + a @ B @ a) * (v @ B @ v))",
        "test_share_that_is_kept",
    ),
    "the offset of the penalty": (
        "- s * r**2 + 2 * shrinkage(gamma) * M * s * r",
        "- s * r**2",
        "test_the_margin_under_a_bright_poison",
    ),
    "the turn by the whole shift": (
        "(2 * np.sqrt(D**2 + s**2 * r**2))",
        "(2 * np.sqrt(D**2 + r**2))",
        "test_the_margin_under_a_bright_poison",
    ),
    "a slow rate without tau": ("trace = 1 + tau + M**2", "trace = 1 + M**2", "test_the_slow_rate"),
    "one step too many": (
        "left = (1 - rate * values) ** np.asarray(steps)",
        "left = (1 - rate * values) ** (1 + np.asarray(steps))",
        "test_descent_is_gradient_descent",
    ),
    "a projection onto what it should remove": (
        "return v - (v @ removed.T) @ removed",
        "return (v @ removed.T) @ removed",
        "test_a_learner_behind_a_projection",
    ),
    "the learner behind it keeps the covariance of its pixels": (
        "cov = V @ summary.cov @ V.T",
        "cov = 2 * V @ summary.cov @ V.T",
        "test_a_learner_behind_a_projection",
    ),
    "a black pixel goes down": (
        "return np.maximum(-eps, -x), np",
        "return -eps + 0 * x, np",
        "test_box_of_the_mean",
    ),
    "a quarter of the one-sided change": (
        "(k - k // 2) / k)",
        "(k - k // 2)) / k",
        "test_mean_of_a_one_sided_change",
    ),
    "the farthest corner is without its half widths": (
        "edge = np.abs(apart) + half",
        "edge = np.abs(apart)",
        "test_longest_change_left",
    ),
    "the mean of the corners by the whole trace": (
        "kept = 1 - np.sum(removed**2, 0)  # the diagonal of P",
        "kept = np.ones(len(low))",
        "test_longest_change_left",
    ),
    "the bound is left at its start": (
        "if len(removed):\n        z = min",
        "if False:\n        z = min",
        "test_bound_of_the_middle",
    ),
    "the search goes to the short corners": (
        "moved = np.where(direction(v) > 0, high, low)",
        "moved = np.where(direction(v) < 0, high, low)",
        "test_floor_behind_a_projection",
    ),
    "single pixels are not tried": (
        "if gain[best] < 1e-12:",
        "if True:",
        "test_longest_change_left",
    ),
    "half of the change in the floor": (
        "return (gap - length) / 2 if",
        "return (gap - length / 2) / 2 if",
        "test_floor_behind_a_projection",
    ),
    "the floor where nothing is left": (
        "/ 2 if length < gap else -np.inf",
        "/ 2",
        "test_floor_behind_a_projection",
    ),
    "the margin's own mean is moved along": (
        "surplus = gap @ gap - np.sum(shift**2, -1)",
        "surplus = gap @ gap",
        "test_drop_beyond_the_gap",
    ),
    "images reach as far as their mean": (
        "return np.sqrt(np.mean(np.sum(edge**2, 1)))",
        "return np.linalg.norm(edge.mean(0)) / 2",
        "test_floor_of_points_behind_a_projection",
    ),
}


def statements():
    """(label, text up to the next statement) of every statement of the chapter that is proved."""
    for page in sorted(CHAPTER.glob("*.md")):
        blocks = re.split(rf"(?=```\{{prf:(?:definition|{KINDS})\}})", page.read_text())
        for block in blocks:
            found = re.match(rf"```\{{prf:{KINDS}\}}.*\n:label: (\S+)", block)
            if found:
                yield found[1], block


def known_tests():
    """The names of all tests of the theory."""
    files = Path(__file__).parent.glob("test_theory*.py")
    return set(re.findall(r"^def (test_\w+)", "".join(map(Path.read_text, files)), re.M))


def test_every_statement_is_proved_and_names_its_test():
    labels = [label for label, _ in statements()]
    assert len(labels) == len(set(labels)) > 20
    table = (CHAPTER / "index.md").read_text()
    for label, block in statements():
        assert "```{prf:proof}" in block, f"{label} has no proof"
        named = set(re.findall(r"`(test_\w+)`", block))
        assert named and named <= known_tests(), f"{label} names {named or 'no test'}"
        assert f"`{label}`" in table, f"{label} is not in the chapter's table"
    assert set(re.findall(r"`(test_\w+)`", table)) <= known_tests()


@pytest.mark.parametrize("module", MODULES)
def test_functions_name_their_statement(module):
    labels = {label for label, _ in statements()} | {"def-acr", "def-learners", "def-projection"}
    plain = ("Summary", "summarise", "overall_mean")
    for name, function in vars(module).items():
        if getattr(function, "__module__", "") == module.__name__ and not name.startswith("_"):
            named = set(re.findall(r"\b(?:lem|thm|def|prop|cor)-[\w-]+", function.__doc__))
            assert named <= labels and (named or name in plain), name


def mutant(old, new):
    """The module of the theory that holds ``old``, with ``new`` in its place."""
    (module,) = (m for m in MODULES if old in inspect.getsource(m))
    source = inspect.getsource(module)
    assert source.count(old) == 1, old
    changed = types.ModuleType(module.__name__)
    exec(compile(source.replace(old, new), module.__file__, "exec"), changed.__dict__)
    return module, changed


@pytest.mark.parametrize("wrong", MUTANTS)
def test_a_wrong_formula_fails_a_test_of_its_own(monkeypatch, wrong):
    old, new, name = MUTANTS[wrong]
    module, changed = mutant(old, new)
    for tests in TESTS:
        for alias, value in list(vars(tests).items()):
            if value is module:
                monkeypatch.setattr(tests, alias, changed)
    (check,) = {f for m in TESTS for n, f in vars(m).items() if n == name}
    arguments = next((m.args[1] for m in getattr(check, "pytestmark", [])), [None])
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        for value in arguments:
            check() if value is None else check(value)
