"""The numbers that a figure draws, which the book offers as CSV below it."""


def with_data(figure, frame):
    """Give a figure the table of what it draws.

    Where a notebook shows the figure, its output holds the table as ``text/csv`` beside the
    picture; ``book/_ext/downloads.py`` makes a file and a link of it.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    frame : DataFrame
        In the units of the axes.

    Returns
    -------
    matplotlib.figure.Figure
        The same figure.
    """
    text = frame.to_csv(index=False, float_format="%.6g")
    figure._repr_mimebundle_ = lambda include=None, exclude=None: {"text/csv": text}
    return figure


def labelled(frame, **names):
    """A table behind columns that say what all its lines are of."""
    return frame.assign(**names)[[*names, *frame]]
