"""What the interactive figures share: sliders in HTML, and a bundle for book and notebook."""

import json

GRID = "display:grid;gap:0.3em 1.5em;grid-template-columns:repeat(auto-fit,minmax(170px,1fr))"


def controls(prefix, sliders):
    """The sliders of a figure and the line below them, as HTML.

    Parameters
    ----------
    prefix : str
        Begins the ids: ``prefix-name``, ``prefix-name-value`` and ``prefix-readout``.
    sliders : list of (str, str, list of str, int)
        Name, label, the text at each position, and the position at the start.
    """
    inputs = "".join(_slider(f"{prefix}-{name}", *rest) for name, *rest in sliders)
    return (
        f'<div role="group" aria-label="Settings of the figure" style="{GRID}">{inputs}</div>'
        f'<p id="{prefix}-readout" role="status" style="margin:0.6em 0"></p>'
    )


def _slider(name, label, texts, at):
    last, text = len(texts) - 1, texts[at]
    return (
        f'<div><label for="{name}">{label}: '
        f'<output id="{name}-value" for="{name}">{text}</output></label>'
        f'<input id="{name}" type="range" min="0" max="{last}" step="1" value="{at}" '
        f'aria-valuetext="{text}" style="width:100%"></div>'
    )


def mimebundle(figure):
    """Plotly's own format for JupyterLab and HTML for the book, of an object that has both."""
    return {
        "application/vnd.plotly.v1+json": json.loads(figure.figure().to_json()),
        "text/html": figure.to_html(),
    }
