"""What a notebook says on the terminal from which papermill or nbclient runs it."""

import logging
import sys

from traitlets.log import get_logger


def say(sentence):
    """Print a sentence in the notebook and on the terminal."""
    print(sentence)
    on_terminal(sentence)


def on_terminal(sentence):
    """Print a sentence where the log of this kernel goes, if this is one."""
    for handler in get_logger().handlers:
        if isinstance(handler, logging.StreamHandler):
            below_the_bar = "\n" if handler.stream.isatty() else ""
            print(below_the_bar + sentence, file=handler.stream, flush=True)


def without_traceback(*refusals):
    """Show exceptions of these kinds as their sentence alone, from now on in this kernel.

    On the terminal it comes before what papermill itself has to say, and after it.
    """

    def show(shell, kind, error, traceback, tb_offset=None):
        sentence = f"{kind.__name__}: {error}"
        on_terminal(sentence)
        error._render_traceback_ = lambda: [sentence]
        shell.showtraceback((kind, error, traceback))

    # Papermill interrupts a kernel that it is done with, which is no error.
    get_logger().addFilter(lambda record: "KeyboardInterrupt caught" not in record.getMessage())
    ipython = sys.modules.get("IPython")  # elsewhere than in a kernel it takes long to import
    if shell := ipython and ipython.get_ipython():
        shell.set_custom_exc(refusals, show)
