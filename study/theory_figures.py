"""The interactive figure of the theory chapter: closed forms, looked up in a table by sliders."""

import json
from functools import cache

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from study import theory
from study.sliders import controls, mimebundle
from study.style import BLUE, GREY, VERMILION

# The example: a smaller target class, and a covariance that is not isotropic, so that the boundary
# can both move and turn.
CLEAN = theory.Summary(
    np.array([2.0, 0.0]), np.array([-1.0, 0.0]), np.array([[0.35, 0.18], [0.18, 0.35]]), 0.3
)
EPS = np.linspace(0, 1.6, 17)
SIGMA = np.array([0.1, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5])
RHO = np.array([0.1, 0.25, 0.5, 0.75, 1.0])


def acr_of_shifts(v, sigma, rho):
    """ACR and (w, b) of noisy least squares after each shift v, (m, 2), of a fraction rho.

    `theory.shift_fraction`, `ga_rule`, `boundary` and `acr` for many shifts at once; a test
    compares the two.
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
    """The shift of least ACR within length eps, by search on a polar grid, its (w, b) and ACR."""
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
    """Training points of the others and of the target, and test points: one fixed draw."""
    rng, target = np.random.default_rng(0), CLEAN.base + CLEAN.d
    draws = ((CLEAN.base, 70), (target, 30), (target, 36))
    return [rng.multivariate_normal(mean, CLEAN.cov, size).round(2) for mean, size in draws]


def _line(w, b):
    along = np.array([-w[1], w[0]])
    foot = -b * np.asarray(w)
    return np.array([foot - 9 * along, foot + 9 * along])


def _circles(x, radius):
    """Closed circles as one broken line."""
    angle = np.append(np.linspace(0, 2 * np.pi, 25), np.nan)
    across = [x0 + r * np.cos(angle) for x0, r in zip(x[:, 0], radius)]
    up = [x1 + r * np.sin(angle) for x1, r in zip(x[:, 1], radius)]
    return np.concatenate(across), np.concatenate(up)


def _dots(x, name, color, symbol, opacity=0.7):
    marker = {"size": 6, "opacity": opacity, "color": color, "symbol": symbol}
    return go.Scatter(x=x[:, 0], y=x[:, 1], name=name, mode="markers", marker=marker)


def _path(x, y, name, **line):
    return go.Scatter(x=x, y=y, name=name, mode="lines", line=line, hoverinfo="skip")


def _plane(i, j, k):
    """Traces of the left panel: points, radii and boundaries at one position of the sliders."""
    others, target, test = example_points()
    before, after = table()[i, j, 0], table()[i, j, k]
    w, b, v = after[:2], after[2], after[3:5]
    poisoned = np.arange(len(target)) < round(RHO[j] * len(target))
    z = test @ w + b
    return [
        _dots(others, "others, training", GREY, "square"),
        _dots(
            target + poisoned[:, None] * v, "target, training, poisoned", VERMILION, "triangle-up"
        ),
        _path(*_circles(test, np.maximum(z, 0)), "certified radius", color=BLUE, width=0.6),
        _dots(test[z > 0], "target, clean test, right", BLUE, "circle", 1),
        _dots(test[z <= 0], "target, clean test, wrong", "black", "x", 1),
        _path(*_line(before[:2], before[2]).T, "boundary, clean data", color="black", dash="dash"),
        _path(*_line(w, b).T, "boundary, poisoned data", color=VERMILION, width=3),
    ]


def _curve(i, j, k):
    """Traces of the right panel: ACR against eps, and where the slider stands."""
    acr, marker = table()[i, j, :, 5], {"size": 12, "color": VERMILION}
    curve = go.Scatter(x=EPS, y=acr, name="ACR", mode="lines", line={"color": BLUE})
    now = go.Scatter(x=EPS[[k]], y=acr[[k]], name="ACR now", mode="markers", marker=marker)
    return [curve.update(showlegend=False), now.update(showlegend=False)]


class PoisonFigure:
    """Two Gaussian classes, noisy least squares, and the best common shift of the poisoned points.

    In JupyterLab a plotly figure at the given setting; in the book the same figure with three
    sliders, which look the answers up in a table, so that they need neither kernel nor network.

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
        margin = {"l": 40, "r": 10, "t": 10, "b": 40}
        fig.update_layout(template="plotly_white", height=480, margin=margin, dragmode=False)
        fig.update_layout(legend={"orientation": "h", "y": -0.14})
        fig.update_xaxes(range=[-3.4, 3.6], constrain="domain", row=1, col=1)
        fig.update_yaxes(range=[-2.5, 2.5], scaleanchor="x", constrain="domain", row=1, col=1)
        fig.update_xaxes(title="ε", range=[0, EPS[-1]], fixedrange=True, row=1, col=2)
        top, title = 1.05 * table()[..., 5].max(), "ACR of the target class"
        fig.update_yaxes(title=title, range=[0, top], fixedrange=True, row=1, col=2)
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
        style = "overflow:hidden;padding:0 8px"
        return f'<div class="poison-figure" style="{style}">{self._controls()}{plot}</div>'

    def _controls(self):
        at = self.position
        sliders = [
            ("eps", "Largest shift ε", [f"{v:.2f}" for v in EPS], at["eps"]),
            ("sigma", "Training noise σ", [f"{v:.2f}" for v in SIGMA], at["sigma"]),
            ("rho", "Poisoned share ρ", [f"{v:.2f}" for v in RHO], at["rho"]),
        ]
        return controls("poison", sliders)

    def _repr_mimebundle_(self, include=None, exclude=None):
        return mimebundle(self)


# Redraws what depends on the sliders, and stacks the two panels on a narrow page. Its only
# arithmetic is the signed distance; everything else is looked up.
SCRIPT = """
(function () {
  const d = DATA, gd = document.getElementById("{plot_id}");
  const get = (name) => document.getElementById("poison-" + name);
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
      column(moved, i), rings[i], column(right, i), column(wrong, i),
      column(before, i), column(after, i),
    ];
    Plotly.restyle(gd, {
      x: [...traces(0), d.EPS, [d.EPS[at.eps]]],
      y: [...traces(1), curve.map((row) => row[5]), [now[5]]],
    }, [1, 2, 3, 4, 5, 6, 7, 8]);
    const show = (value) => value.toFixed(2), drop = 100 * (1 - now[5] / curve[0][5]);
    get("readout").textContent =
      `ACR of the target class: ${show(curve[0][5])} on clean data, ` +
      `${show(now[5])} on poisoned data ` +
      `(${drop.toFixed(0)} % less). Shift of a poisoned point: (${show(now[3])}, ${show(now[4])}).`;
  }
  function place() {
    const width = gd.parentElement.clientWidth, narrow = width < 600;
    const height = narrow ? 720 : 450;
    gd.parentElement.style.height = height + "px";
    const [x, y, x2, y2] = narrow
      ? [[0, 1], [0.48, 1], [0, 1], [0, 0.36]]
      : [[0, 0.62], [0, 1], [0.72, 1], [0, 1]];
    const domains = {
      "xaxis.domain": x, "yaxis.domain": y, "xaxis2.domain": x2, "yaxis2.domain": y2,
    };
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
