"""A link below each figure to the numbers that it draws, a CSV file of the built book.

A figure brings its table in the output of its cell, as ``text/csv`` beside the picture
(:func:`study.figures.data.with_data`). MyST-NB names a picture's file by the picture's hash.
"""

import json
from base64 import b64decode
from hashlib import sha256
from pathlib import Path

from docutils import nodes
from sphinx.addnodes import download_reference

TEXT = "Data (CSV)"


def tables(notebook):
    """The tables in the outputs of a notebook, by the hash of the picture beside each (dict)."""
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    bundles = [output.get("data", {}) for output in outputs]
    return {
        sha256(b64decode("".join(data["image/png"]))).hexdigest(): "".join(data["text/csv"])
        for data in bundles
        if {"image/png", "text/csv"} <= set(data)
    }


def add_links(app, doctree):
    page, out = app.env.docname, Path(app.outdir)
    executed = out.parent / "jupyter_execute" / f"{page}.ipynb"
    if app.builder.format != "html" or not executed.exists():
        return
    found = tables(json.loads(executed.read_text(encoding="utf-8")))
    for image in list(doctree.findall(nodes.image)):
        digest = Path(image["uri"]).stem
        if digest in found:
            figure = figure_of(image)
            name = (figure["names"] or [digest[:12]])[0]
            path = out / "_downloads" / page / f"{name}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(found[digest], encoding="utf-8")
            place(figure, f"{page}/{name}.csv")


def figure_of(image):
    """The figure around a picture, which lies in containers of its output; else the picture."""
    node = image
    while node is not None and not isinstance(node, nodes.figure):
        node = node.parent
    return image if node is None else node


def place(figure, file):
    """Put the link to a file of ``_downloads`` below a figure."""
    link = download_reference("", TEXT, filename=file)
    line = nodes.paragraph("", "", link, classes=["figure-data"])
    figure.parent.insert(figure.parent.index(figure) + 1, line)


def setup(app):
    # After Sphinx has collected the downloads that pages name, which lie in the book's source.
    app.connect("doctree-read", add_links, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
