"""Figures of the theory chapter. They evaluate closed forms and draw rows; nothing here trains or attacks."""

import json
from functools import cache

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from study import theory
from study.intervals import mean_interval
from study.results import ROOT, manifest_path

# Okabe and Ito's palette: told apart with any colour vision; symbols and dashes repeat the distinction.
BLUE, ORANGE, GREEN, VERMILION, PURPLE, GREY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#767676",
)

# The example of the interactive figure: a smaller target class, and a covariance that is not isotropic, so that the
# boundary can both move and turn.
CLEAN = theory.Summary(
    np.array([2.0, 0.0]), np.array([-1.0, 0.0]), np.array([[0.35, 0.18], [0.18, 0.35]]), 0.3
)
EPS = np.linspace(0, 1.6, 17)
SIGMA = np.array([0.1, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5])
RHO = np.array([0.1, 0.25, 0.5, 0.75, 1.0])


def acr_of_shifts(v, sigma, rho):
    """ACR and (w, b) of Gaussian-augmented least squares after each shift v, (m, 2), of a fraction rho of the target.

    `theory.shift_fraction`, `ga_rule`, `boundary` and `acr` for many shifts at once; a test compares the two.
    """
    u = CLEAN.d + rho * v
    cov = CLEAN.cov + CLEAN.p * rho * (1 - rho) * v[:, :, None] * v[:, None, :]
    B = np.linalg.inv(cov + sigma**2 * np.eye(2))
    h = theory.ga_rule(CLEAN, sigma).h  # depends on the class sizes only
    w = np.einsum("mij,mj->mi", B, u)
    b = -w @ CLEAN.base - (w * u).sum(1) / 2 - h
    length = np.linalg.norm(w, axis=1)
    mu = (w @ (CLEAN.base + CLEAN.d) + b) / length
    s = np.sqrt(np.einsum("mi,ij,mj->m", w, CLEAN.cov, w)) / length
    return theory.mean_positive_part(mu, s), w / length[:, None], b / length


def best_common_shift(eps, sigma, rho):
    """The shift of least ACR within length eps by search over a polar grid, with the (w, b) and ACR it leads to."""
    angle = np.linspace(0, 2 * np.pi, 240, endpoint=False)
    length = eps * np.array([0.25, 0.5, 0.75, 1.0])
    v = (length[:, None, None] * np.stack([np.cos(angle), np.sin(angle)], 1)).reshape(-1, 2)
    acr, w, b = acr_of_shifts(v, sigma, rho)
    i = acr.argmin()
    return v[i], w[i], b[i], acr[i]


@cache
def table():
    """(sigma, rho, eps, 6): w, b, shift and ACR at every position of the sliders."""
    rows = [np.hstack(best_common_shift(e, s, r)) for s in SIGMA for r in RHO for e in EPS]
    return np.array(rows)[:, [2, 3, 4, 0, 1, 5]].reshape(len(SIGMA), len(RHO), len(EPS), 6)


def example_points():
    """Training points of the others and of the target, and test points of the target: a fixed draw for the eye."""
    rng = np.random.default_rng(0)
    draw = lambda mean, count: rng.multivariate_normal(mean, CLEAN.cov, count).round(2)  # noqa: E731
    return draw(CLEAN.base, 70), draw(CLEAN.base + CLEAN.d, 30), draw(CLEAN.base + CLEAN.d, 36)


def _line(w, b):
    along = np.array([-w[1], w[0]])
    foot = -b * np.asarray(w)
    return np.array([foot - 9 * along, foot + 9 * along])


def _circles(x, radius):
    """Closed circles as one broken line."""
    angle = np.append(np.linspace(0, 2 * np.pi, 25), np.nan)
    return [
        np.concatenate([c + r * f(angle) for c, r in zip(x[:, i], radius)])
        for i, f in enumerate((np.cos, np.sin))
    ]


def _dots(x, name, color, symbol, opacity=0.7):
    marker = {"size": 6, "opacity": opacity, "color": color, "symbol": symbol}
    return go.Scatter(x=x[:, 0], y=x[:, 1], name=name, mode="markers", marker=marker)


def _path(x, y, name, **line):
    return go.Scatter(x=x, y=y, name=name, mode="lines", line=line, hoverinfo="skip")


def _plane(i, j, k):
    """Traces of the left panel: points, radii and boundaries at one position of the sliders."""
    others, target, test = example_points()
    w, b, v = table()[i, j, k, :2], table()[i, j, k, 2], table()[i, j, k, 3:5]
    moved = target + (np.arange(len(target)) < round(RHO[j] * len(target)))[:, None] * v
    z = test @ w + b
    return [
        _dots(others, "others, training", GREY, "square"),
        _dots(moved, "target, training, poisoned", VERMILION, "triangle-up"),
        _path(*_circles(test, np.maximum(z, 0)), "certified radius", color=BLUE, width=0.6),
        _dots(test[z > 0], "target, clean test, right", BLUE, "circle", 1),
        _dots(test[z <= 0], "target, clean test, wrong", "black", "x", 1),
        _path(
            *_line(table()[i, j, 0, :2], table()[i, j, 0, 2]).T,
            "boundary, clean data",
            color="black",
            dash="dash",
        ),
        _path(*_line(w, b).T, "boundary, poisoned data", color=VERMILION, width=3),
    ]


def _curve(i, j, k):
    """Traces of the right panel: ACR against eps, and where the slider stands."""
    acr, marker = table()[i, j, :, 5], {"size": 12, "color": VERMILION}
    return [
        go.Scatter(x=EPS, y=acr, name="ACR", mode="lines", line={"color": BLUE}, showlegend=False),
        go.Scatter(
            x=EPS[[k]], y=acr[[k]], name="ACR now", mode="markers", marker=marker, showlegend=False
        ),
    ]


class PoisonFigure:
    """Two Gaussian classes, Gaussian-augmented least squares, and the best common shift of the poisoned points.

    In JupyterLab a plotly figure at the given setting; in the book the same figure with three sliders, which look the
    answers up in a table, so that they need neither kernel nor network.

    Parameters
    ----------
    eps, sigma, rho : int
        Positions in ``EPS``, ``SIGMA`` and ``RHO``.
    """

    def __init__(self, eps=8, sigma=2, rho=4):
        self.position = {"sigma": sigma, "rho": rho, "eps": eps}

    def figure(self):
        """The plotly figure at this setting; the script below redraws traces 1 to 8 of it."""
        i, j, k = (self.position[name] for name in ("sigma", "rho", "eps"))
        fig = make_subplots(1, 2, column_widths=[0.66, 0.34])
        fig.add_traces(_plane(i, j, k), rows=1, cols=1)
        fig.add_traces(_curve(i, j, k), rows=1, cols=2)
        fig.update_layout(
            template="plotly_white", height=480, margin={"l": 40, "r": 10, "t": 10, "b": 40}
        )
        fig.update_layout(legend={"orientation": "h", "y": -0.14}, dragmode=False)
        fig.update_xaxes(range=[-3.4, 3.6], constrain="domain", row=1, col=1)
        fig.update_yaxes(range=[-2.5, 2.5], scaleanchor="x", constrain="domain", row=1, col=1)
        fig.update_xaxes(title="ε", range=[0, EPS[-1]], fixedrange=True, row=1, col=2)
        top = 1.05 * table()[..., 5].max()
        fig.update_yaxes(
            title="ACR of the target class", range=[0, top], fixedrange=True, row=1, col=2
        )
        return fig

    def to_html(self):
        """Sliders, plot and the script that joins them; plotly.min.js comes from the page."""
        data = {
            "table": table().round(3).tolist(),
            "EPS": EPS.round(3).tolist(),
            "SIGMA": SIGMA.tolist(),
            "RHO": RHO.tolist(),
            "target": example_points()[1].tolist(),
            "test": example_points()[2].tolist(),
        }
        script = SCRIPT.replace("DATA", json.dumps(data, separators=(",", ":")))
        plot = self.figure().to_html(
            full_html=False,
            include_plotlyjs=False,
            div_id="poison-plot",
            post_script=script,
            config={"displayModeBar": False, "scrollZoom": False},
        )
        return f'<div class="poison-figure" style="overflow:hidden;padding:0 8px">{self._controls()}{plot}</div>'

    def _controls(self):
        rows = [
            ("eps", "Largest shift ε", EPS),
            ("sigma", "Training noise σ", SIGMA),
            ("rho", "Poisoned share ρ", RHO),
        ]
        sliders = ""
        for name, text, values in rows:
            at = self.position[name]
            value = f"{values[at]:.2f}"
            sliders += (
                f'<div><label for="poison-{name}">{text}: '
                f'<output id="poison-{name}-value" for="poison-{name}">{value}</output></label>'
                f'<input id="poison-{name}" type="range" min="0" max="{len(values) - 1}" step="1" value="{at}" '
                f'aria-valuetext="{value}" style="width:100%"></div>'
            )
        grid = (
            "display:grid;gap:0.3em 1.5em;grid-template-columns:repeat(auto-fit,minmax(170px,1fr))"
        )
        return (
            f'<div role="group" aria-label="Settings of the figure" style="{grid}">{sliders}</div>'
            '<p id="poison-readout" role="status" style="margin:0.6em 0"></p>'
        )

    def _repr_mimebundle_(self, include=None, exclude=None):
        return {
            "application/vnd.plotly.v1+json": json.loads(self.figure().to_json()),
            "text/html": self.to_html(),
        }


# Redraws what depends on the sliders, and stacks the two panels on a narrow page. Its only arithmetic is the signed
# distance; everything else is looked up.
SCRIPT = """
(function () {
  const d = DATA, gd = document.getElementById("{plot_id}"), get = (name) => document.getElementById("poison-" + name);
  function line(w, b) {
    const foot = [-b * w[0], -b * w[1]];
    return [-9, 9].map((t) => [foot[0] - t * w[1], foot[1] + t * w[0]]);
  }
  function circles(points, radii) {
    const out = [[], []];
    points.forEach((p, i) => {
      for (let a = 0; a <= 24; a++) {
        out[0].push(p[0] + radii[i] * Math.cos(a * Math.PI / 12));
        out[1].push(p[1] + radii[i] * Math.sin(a * Math.PI / 12));
      }
      out[0].push(null); out[1].push(null);
    });
    return out;
  }
  const column = (points, i) => points.map((p) => p[i]);
  function draw() {
    const at = {};
    for (const name of ["eps", "sigma", "rho"]) {
      at[name] = Number(get(name).value);
      const text = d[name.toUpperCase()][at[name]].toFixed(2);
      get(name + "-value").textContent = text;
      get(name).setAttribute("aria-valuetext", text);
    }
    const curve = d.table[at.sigma][at.rho], now = curve[at.eps], w = now.slice(0, 2), b = now[2];
    const poisoned = Math.round(d.RHO[at.rho] * d.target.length);
    const moved = d.target.map((p, i) => i < poisoned ? [p[0] + now[3], p[1] + now[4]] : p);
    const z = d.test.map((p) => w[0] * p[0] + w[1] * p[1] + b);
    const right = d.test.filter((p, i) => z[i] > 0), wrong = d.test.filter((p, i) => z[i] <= 0);
    const rings = circles(d.test, z.map((v) => Math.max(v, 0)));
    const before = line(curve[0].slice(0, 2), curve[0][2]), after = line(w, b);
    const traces = (i) => [
      column(moved, i), rings[i], column(right, i), column(wrong, i), column(before, i), column(after, i),
    ];
    Plotly.restyle(gd, {
      x: [...traces(0), d.EPS, [d.EPS[at.eps]]],
      y: [...traces(1), curve.map((row) => row[5]), [now[5]]],
    }, [1, 2, 3, 4, 5, 6, 7, 8]);
    const show = (value) => value.toFixed(2), drop = 100 * (1 - now[5] / curve[0][5]);
    get("readout").textContent =
      `ACR of the target class: ${show(curve[0][5])} on clean data, ${show(now[5])} on poisoned data ` +
      `(${drop.toFixed(0)} % less). Shift of a poisoned point: (${show(now[3])}, ${show(now[4])}).`;
  }
  function place() {
    const width = gd.parentElement.clientWidth, narrow = width < 600, height = narrow ? 720 : 450;
    gd.parentElement.style.height = height + "px";
    const domains = narrow
      ? {"xaxis.domain": [0, 1], "yaxis.domain": [0.48, 1], "xaxis2.domain": [0, 1], "yaxis2.domain": [0, 0.36]}
      : {"xaxis.domain": [0, 0.62], "yaxis.domain": [0, 1], "xaxis2.domain": [0.72, 1], "yaxis2.domain": [0, 1]};
    Plotly.relayout(gd, {width, height, "legend.y": narrow ? -0.12 : -0.17, ...domains});
  }
  for (const name of ["eps", "sigma", "rho"]) get(name).addEventListener("input", draw);
  let width = 0;
  new ResizeObserver(() => {
    if (gd.parentElement.clientWidth !== width) { width = gd.parentElement.clientWidth; place(); }
  }).observe(gd.parentElement.parentElement);
  draw();
})();
"""


def plot_line_optima():
    """ACR against the shift on a line for three sizes of the imbalance constant c; global optima are filled."""
    D, r, s = 1.5, 0.9, 0.4
    shifts = np.linspace(-r, r, 301)
    cases = [
        (0.4 * (D**2 - r**2), BLUE, "-"),
        (D**2 - r**2, GREEN, "--"),
        (1.7 * (D**2 - r**2), VERMILION, "-."),
    ]
    figure, axis = plt.subplots(figsize=(6.4, 3.4))
    for c, color, dash in cases:
        value = lambda v: theory.mean_positive_part(D - (D + v + c / (D + v)) / 2, s)  # noqa: B023, E731
        axis.plot(
            shifts,
            value(shifts),
            color=color,
            ls=dash,
            label=f"$c = {c / (D**2 - r**2):.1f}\\,(D^2 - r^2)$",
        )
        optima = theory.local_optima_line(D, r, c)
        best = min(map(value, optima))
        for v in optima:
            axis.plot(
                v,
                value(v),
                "o",
                color=color,
                mfc=color if np.isclose(value(v), best) else "white",
                ms=8,
            )
    axis.set(
        xlabel="shift $v$ of the target's training mean",
        ylabel="ACR of the target class",
        ylim=(0, None),
    )
    axis.legend(frameon=False)
    figure.tight_layout()
    return figure


MODELS = {
    "mean": ("mean-difference", BLUE, "o"),
    "ga least squares": ("least squares, GA", VERMILION, "s"),
    "ga logistic": ("logistic regression, GA", GREEN, "^"),
    "lenet": ("LeNet, GA", PURPLE, "D"),
}


def read(name="linear_vs_lenet"):
    """Rows of trained classifiers, the closed form's prediction, and the parameters of `linear_vs_lenet.ipynb`."""
    path = ROOT / "data" / "results" / "theory" / f"{name}.csv"
    parameters = json.loads(manifest_path(path).read_text())["parameters"]
    return pd.read_csv(path), pd.read_csv(path.with_name(path.stem + "_prediction.csv")), parameters


def acr_table(rows, column):
    """Mean over the test points of ``column`` (wrong points count 0), one row for each model, eps and seed."""
    rows = rows.assign(value=rows[column].clip(lower=0)).dropna(subset=[column])
    return rows.groupby(["model", "eps", "seed"])["value"].mean().reset_index()


def digits_table(eps=0.1):
    """The closed form's error and the lost ACR at ``eps``, for the embedded digits and for MNIST; the LeNet's ACR is sampled."""
    lines = []
    for title, name in (("embedded digits", "linear_vs_lenet"), ("MNIST", "linear_vs_lenet_mnist")):
        rows, prediction, _ = read(name)
        predicted = prediction.set_index(["learner", "eps"])["acr"]
        for model, learner in (
            ("mean", "mean"),
            ("ga least squares", "ga"),
            ("ga logistic", "ga"),
            ("lenet", None),
        ):
            table = acr_table(
                rows[rows["model"] == model], "distance" if learner else "radius"
            ).pivot(index="seed", columns="eps", values="value")
            mean, low, high = (100 * value for value in mean_interval(1 - table[eps] / table[0.0]))
            error = (
                f"{100 * abs(table[eps].mean() / predicted[learner, eps] - 1):.0f} %"
                if learner
                else ""
            )
            points = (
                rows.loc[rows["model"] == model, ["point", "distance" if learner else "radius"]]
                .dropna()["point"]
                .nunique()
            )
            lines.append(
                (
                    title,
                    MODELS[model][0],
                    f"{mean:.0f} % [{low:.0f}, {high:.0f}]",
                    error,
                    points,
                    len(table),
                )
            )
    columns = [
        "data",
        "classifier",
        "lost ACR (95 % over seeds)",
        "error of the closed form",
        "test 8s",
        "seeds",
    ]
    return pd.DataFrame(lines, columns=columns).style.hide(axis="index")


def plot_digits(rows, prediction):
    """Exact ACR of trained linear classifiers on clean test digits over the closed form's prediction."""
    figure, axis = plt.subplots(figsize=(6.4, 3.8))
    for learner, name in (("mean", "mean"), ("ga", "ga least squares")):
        curve = prediction[prediction["learner"] == learner]
        axis.plot(
            curve["eps"],
            curve["acr"],
            color=MODELS[name][1],
            label=f"closed form, {MODELS[name][0]}",
        )
    _points(axis, acr_table(rows, "distance"))
    floor = prediction[prediction["learner"] == "mean"]
    axis.plot(
        floor["eps"],
        floor["floor"].clip(lower=0),
        color=GREY,
        ls=":",
        label="floor, mean-difference",
    )
    axis.set(
        xlabel="$\\epsilon$ (L-inf, pixel units)", ylabel="ACR of clean test 8s", ylim=(0, None)
    )
    axis.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    return figure


def plot_lenet(rows):
    """Share of the clean ACR that is left, all models under the same sampling certifier."""
    figure, axis = plt.subplots(figsize=(6.4, 3.8))
    table = acr_table(rows, "radius")
    clean = table[table["eps"] == 0].groupby("model")["value"].mean()
    table["value"] = table["value"] / table["model"].map(clean)
    for name, group in table.groupby("model"):
        axis.plot(group.groupby("eps")["value"].mean(), color=MODELS[name][1], lw=1)
    _points(axis, table)
    axis.set(
        xlabel="$\\epsilon$ (L-inf, pixel units)", ylabel="ACR / ACR on clean data", ylim=(0, None)
    )
    axis.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    return figure


def plot_offset_angle(prediction):
    """The two parts of the lost margin of the mean 8 against eps."""
    figure, axes = plt.subplots(1, 2, figsize=(6.8, 3), sharey=True)
    for axis, (learner, name) in zip(
        axes, (("mean", "mean-difference"), ("ga", "least squares, GA"))
    ):
        part = prediction[prediction["learner"] == learner]
        axis.plot(part["eps"], part["offset"], color=BLUE, label="offset")
        axis.plot(part["eps"], part["angle"], color=VERMILION, ls="--", label="angle")
        axis.set(title=name, xlabel="$\\epsilon$ (L-inf, pixel units)")
    axes[0].set(ylabel="change of the margin")
    axes[0].legend(frameon=False)
    figure.tight_layout()
    return figure


def _points(axis, table):
    for name, group in table.groupby("model"):
        label, color, marker = MODELS[name]
        axis.plot(
            group["eps"],
            group["value"],
            marker,
            color=color,
            mfc="none",
            ms=6,
            label=f"trained, {label}",
        )
