"""Certify a network at points in one call, whatever the votes are told."""

from pacd import certify as certifier
from pacd.votes import Votes

HOW = ("quick", "margin", "batch", "compiled")


def votes_of(model, x, classes=10, **options):
    """The votes, and the options that are not theirs."""
    told = {name: options.pop(name) for name in HOW if name in options}
    return Votes(model, x, classes, **told), options


def certify(model, x, y, sigma, **options):
    votes, options = votes_of(model, x, **options)
    return certifier.certify(votes, y, sigma, **options)
