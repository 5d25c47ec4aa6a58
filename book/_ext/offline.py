"""The built book asks the network for nothing: its two libraries come out of installed packages.

MathJax (tex-svg-full.js draws its glyphs itself, so it fetches no fonts) is loaded by
`sphinx.ext.mathjax` on pages with equations only. plotly.min.js is loaded here, on pages that hold
a plotly figure only. Neither file lies in `book/_static`: Jupyter Book would put it into the head
of every page.
"""

from importlib.metadata import distribution
from importlib.util import find_spec
from pathlib import Path


def _mathjax():
    # Found by file, not by import: the package's name holds hyphens.
    dist = distribution("sphinx-mathjax-offline")
    return next(str(dist.locate_file(f)) for f in dist.files if f.name == "tex-svg-full.js")


def _plotly():
    # find_spec imports nothing; `import plotly` would cost half a second.
    return str(Path(find_spec("plotly").origin).parent / "package_data" / "plotly.min.js")


def serve_libraries(app, config):
    config.html_static_path = [*config.html_static_path, _mathjax(), _plotly()]
    config.mathjax_path = "tex-svg-full.js"


def load_plotly(app, pagename, templatename, context, doctree):
    if "Plotly.newPlot" in context.get("body", ""):
        app.add_js_file(
            "plotly.min.js"
        )  # not deferred: the figures' own scripts run while the page is read


def setup(app):
    app.connect("config-inited", serve_libraries)
    app.connect("html-page-context", load_plotly)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
