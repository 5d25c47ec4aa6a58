"""What a file of ``profiles/`` may hold, and one sentence where it holds something else.

Here the blocks are checked; the parameters in them are, with the runs that they make, by
:mod:`study.grid`.
"""

from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Tag, ValidationError

from pacd.losses import TRAINERS
from study import named
from study.parameters import SettingsError

# Notebooks of runs beside the victims.
ANALYSES = ("cost", "shortcut", "linear_vs_lenet", "first_layer_theory", "audit")


def _named(content):
    """Names with their values."""
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise ValueError(f"must hold names with their values, not {content!r}")
    return content


def _given(parameters):
    """Names with their values, none of them a list of nothing."""
    if [] in _named(parameters).values():
        raise ValueError("must have one value or more for each name, not []")
    return parameters


def _listed(blocks):
    """One block as a list of one; an empty list is refused as a block that is missing."""
    return (blocks or [None]) if isinstance(blocks, list) else [blocks]


def _trainer(name):
    """A built-in one or MODULE:FUNCTION, which is looked at when a run names it."""
    if name not in TRAINERS and not named.is_path(name):
        raise ValueError
    return name


Axes = Annotated[dict[str, Any], BeforeValidator(_given)]
Parameters = Annotated[dict[str, Any], BeforeValidator(_named)]


class Part(BaseModel):
    """A part of a profile: a misspelt name in it is refused, or its default would run instead."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Pair(Part):
    """Parameters of victims and of their poison."""

    victim: Axes = {}
    poison: Axes = {}


class Analysis(Part):
    """One run of another notebook: its parameters, and the poison that it reads, if it does."""

    notebook: Literal[ANALYSES]
    parameters: Parameters
    poison: Parameters = {}


PAIR, ANALYSIS = "<pair>", "<analysis>"  # in the place of an error, where no name has brackets


def _kind(block):
    has_own_notebook = isinstance(block, dict) and {"notebook", "parameters"} & set(block)
    return ANALYSIS if has_own_notebook else PAIR


Block = Annotated[
    Annotated[Pair, Tag(PAIR)] | Annotated[Analysis, Tag(ANALYSIS)], Discriminator(_kind)
]
Blocks = Annotated[list[Block], BeforeValidator(_listed)]


class Profile(Part):
    """A whole profile; see :mod:`study.grid` for what it means."""

    kept: bool = False
    data: Axes = {}
    victim: Axes = {}
    poison: Axes = {}
    trainers: dict[Annotated[str, BeforeValidator(_trainer)], Pair] = {}
    experiments: Annotated[dict[str, Blocks], BeforeValidator(_named)] = {}


def read_profile(path):
    """Read and check the blocks of a profile.

    Parameters
    ----------
    path : Path
        A YAML file.

    Returns
    -------
    Profile

    Raises
    ------
    SettingsError
        If it is no YAML, or on the first block or name that a profile may not hold.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _OnlyOnce)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path.name} must be YAML: {' '.join(str(error).split())}.") from None
    try:
        return Profile.model_validate(content)
    except ValidationError as error:
        # A name that is missing comes after one that is misspelt.
        first = min(error.errors(), key=lambda one: one["type"] == "missing")
        raise SettingsError(f"{path.name}{_sentence(first)}.") from None


class _OnlyOnce(yaml.SafeLoader):
    """YAML, but of two entries of one name none is passed over."""

    def compose_mapping_node(self, anchor):
        node = super().compose_mapping_node(anchor)
        names = [key.value for key, _ in node.value]
        for name in names:
            if names.count(name) > 1:
                line = node.start_mark.line + 1
                raise yaml.YAMLError(f"{name!r} is twice in one place, which begins in line {line}")
        return node


def _sentence(error):
    """Where in the profile the error is, and what is wrong there."""
    loc, kind, given = error["loc"], error["type"], error["input"]
    place = [part for part in loc if isinstance(part, str) and part[0] not in "<["]
    if kind == "extra_forbidden" or loc[-1:] == ("[key]",):
        name = place.pop()
        wrong = f"may hold {_known(loc, place)}, not {name!r}"
    elif kind == "value_error":
        wrong = str(error["ctx"]["error"])
    elif kind == "invalid_key":
        wrong = f"may hold {_known(loc, place)}, not {given!r}"
    elif kind == "missing":
        name = place.pop()
        wrong = f"must hold {name!r}"
    elif kind == "bool_type":
        wrong = f"must be true or false, not {given!r}"
    elif kind == "literal_error":
        wrong = f"must be one of {', '.join(ANALYSES)}, not {given!r}"
    else:
        wrong = f"must hold {_known(loc, place)}, not {given!r}"
    return "".join(f": {part}" for part in place) + f" {wrong}"


def _known(loc, place):
    """The names that a place may hold."""
    parts = {(): Profile.model_fields, ("trainers",): TRAINERS}
    inside = Analysis if ANALYSIS in loc else Pair
    return ", ".join(parts.get(tuple(place), inside.model_fields))
