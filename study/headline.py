"""The figure that README shows, from the committed rows: ``python -m study.headline``."""

import argparse

import matplotlib

from study.numbers.index import forest
from study.results import ROOT, replacing

PATH = ROOT / "book" / "headline.svg"


def draw(path):
    """Write the figure as SVG; the same rows give the same file."""
    with matplotlib.rc_context({"svg.hashsalt": "headline"}), replacing(path) as temporary:
        forest().savefig(temporary, format="svg", metadata={"Date": None}, facecolor="white")


if __name__ == "__main__":
    argparse.ArgumentParser(prog="python -m study.headline", description=__doc__).parse_args()
    draw(PATH)
