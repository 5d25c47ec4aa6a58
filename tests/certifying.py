"""Certify a network at points in one call, whatever the votes are told."""

from pacd import certify as certifier
from pacd.votes import Votes
from study import sequential

HOW = ("precision", "batch", "compiled")


def votes_of(model, x, classes=10, **options):
    """The votes, and the options that are not theirs."""
    told = {name: options.pop(name) for name in HOW if name in options}
    return Votes(model, x, classes, **told), options


def certify(model, x, y, sigma, **options):
    votes, options = votes_of(model, x, **options)
    return certifier.certify(votes, y, sigma, **options)


def decide(model, x, y, sigma, radii, **options):
    votes, options = votes_of(model, x, **options)
    return sequential.decide(votes, y, sigma, radii, **options)
