"""A poison's strength under a slider: an image, the same as poison, and the radii of the rows."""

import base64
import io
import json

import matplotlib.pyplot as plt
import numpy as np

from study.sliders import GRID, controls
from study.style import attack_colour, attack_name, line_style

WIDE, HIGH, EDGE = 560, 180, 34  # of the picture of radii, px; EDGE is what its axes take
DASHES = {"-": "none", "--": "7 4", ":": "2 3"}


def strengths_html(clean, patterns, radii):
    """A slider over the strengths of rows, which asks for neither kernel nor network.

    Parameters
    ----------
    clean : array of shape (H, W) or (H, W, 3)
        An image, pixel units.
    patterns : dict
        Mean change of each attack for each unit of strength, arrays that broadcast to it.
    radii : dict
        Tables of victims and test points (pixel units) by attack and strength; those of clean
        victims under ``("none", 0)``.

    Returns
    -------
    str
    """
    found = views(clean, patterns, radii)
    texts, last = [view["eps"] for view in found], len(found) - 1
    sides = found[last]["sides"]
    slider = controls("strengths", [("eps", "Strength ε (pixel units, L∞)", texts, last)])
    images = "".join(_image(attack, side) for attack, side in sides.items())
    lines = "".join(_line(attack, side["points"]) for attack, side in sides.items())
    label = "Certified radius of each test point of the class, the largest first."
    size = f"width:100%;max-width:{WIDE}px"
    return (
        f'<div class="strengths">{slider}<div style="{GRID}">{images}</div>'
        f'<svg role="img" aria-label="{label}" viewBox="0 0 {WIDE} {HIGH}" style="{size}">'
        f"{_axes(_top(radii))}{lines}</svg>"
        f"<script>{SCRIPT.replace('DATA', json.dumps(found))}</script></div>"
    )


def views(clean, patterns, radii):
    """What is shown at each strength that has rows, weakest first (list of dict)."""
    found = []
    for eps in sorted({eps for _, eps in radii}):
        changes = {attack: eps * change for attack, change in patterns.items()}
        sides = {"none": _side(clean, 0, radii["none", 0], _top(radii))}
        for attack, change in changes.items():
            sides[attack] = _side(clean, change, radii.get((attack, eps)), _top(radii))
        found.append({"eps": f"{eps:g}", "readout": _readout(eps, patterns, radii), "sides": sides})
    return found


def _side(clean, change, table, top):
    points = "" if table is None else _points(table.mean().to_numpy(), top)
    return {"image": _png(np.clip(clean + change, 0, 1)), "points": points}


def _readout(eps, attacks, radii):
    """The ACR of every side that has rows of this strength."""
    clean = radii["none", 0]
    parts = [f"{_acr(clean)} clean"]
    if eps:
        there = {attack: radii.get((attack, eps)) for attack in attacks}
        parts += [f"{attack_name(attack)}: {_acr(table)}" for attack, table in there.items()]
    return f"ACR: {'; '.join(parts)}. {clean.shape[1]} test points."


def _acr(table):
    if table is None:
        return "no rows"
    return f"{table.to_numpy().mean():.3f} ({len(table)} victims)"


def _top(radii):
    return max(table.mean().max() for table in radii.values())


def _points(radii, top):
    """A line through the radii of the test points, largest first, as SVG writes it."""
    x = np.linspace(EDGE, WIDE, len(radii))
    y = (HIGH - EDGE) * (1 - np.sort(radii)[::-1] / top)
    return " ".join(f"{a:.1f},{b:.2f}" for a, b in zip(x, y))


def _png(image):
    buffer = io.BytesIO()
    levels = np.round(255 * image).astype(np.uint8)
    colours = levels if levels.ndim == 3 else np.stack([levels] * 3, axis=-1)
    plt.imsave(buffer, colours, format="png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _image(attack, side):
    """An image above its name and the line by which its victims are drawn."""
    name = f"{attack_name(attack)} image" if attack == "none" else attack_name(attack)
    line = f'<line x2="34" y1="5" y2="5" {_stroke(attack)}/>'
    return (
        f'<div><img id="strengths-{attack}-image" src="{side["image"]}" alt="{name}" '
        'style="width:112px;image-rendering:pixelated">'
        f'<br><svg width="34" height="10" aria-hidden="true">{line}</svg> {name}</div>'
    )


def _line(attack, points):
    return f'<polyline id="strengths-{attack}-curve" points="{points}" {_stroke(attack)}/>'


def _stroke(attack):
    """Clean victims are drawn in the colour of the text, which both themes can show."""
    colour = "currentColor" if attack == "none" else attack_colour(attack)
    dashes = DASHES[line_style(attack)]
    return f'fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dashes}"'


def _axes(top):
    """The axes and their texts; ticks of the radius stand at halves."""
    foot, text = HIGH - EDGE, 'fill="currentColor" font-size="13"'
    parts = [f'<path d="M{EDGE} 0V{foot}H{WIDE}" fill="none" stroke="currentColor"/>']
    for radius in np.arange(0, top, 0.5):
        place = f'x="{EDGE - 5}" y="{foot * (1 - radius / top) + 4:.1f}" text-anchor="end"'
        parts.append(f"<text {place} {text}>{radius:g}</text>")
    names = "certified radius (pixel units, L2) of each test point, the largest first"
    parts.append(f'<text x="{EDGE}" y="{HIGH - 8}" {text}>{names}</text>')
    return "".join(parts)


# Looks the view of a position up; every number and image was made from the rows before.
SCRIPT = """
(function () {
  const views = DATA, get = (name) => document.getElementById("strengths-" + name);
  function show() {
    const view = views[Number(get("eps").value)];
    get("eps-value").textContent = view.eps;
    get("eps").setAttribute("aria-valuetext", view.eps);
    get("readout").textContent = view.readout;
    for (const [attack, side] of Object.entries(view.sides)) {
      get(attack + "-image").src = side.image;
      get(attack + "-curve").setAttribute("points", side.points);
    }
  }
  get("eps").addEventListener("input", show);
  show();
})();
"""
