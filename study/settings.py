"""The parameters of the notebooks: what is allowed, and one clear sentence where one is not."""

import ast
import difflib
import inspect
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Interval
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    create_model,
    model_validator,
)

from pacd.attack import METHODS
from pacd.controls import CONTROLS
from pacd.curation import CURATIONS
from pacd.data import TORCHVISION
from pacd.direct_search import SEARCHES
from pacd.losses import TRAINERS
from pacd.models import MODELS, NORMALISATIONS
from pacd.train import SCHEDULES
from pacd.votes import PRECISIONS
from study.results import unwritable


class SettingsError(ValueError):
    """One sentence: the parameter, what is allowed, and the nearest known name."""


def allowed(text, **limits):
    """A field whose description completes the sentence 'NAME must be ...'."""
    return Field(description=text, **limits)


def one_of(names):
    return Annotated[str, allowed("one of " + ", ".join(names)), BeforeValidator(_known(names))]


def _known(names):
    def check(value):
        if value not in names:
            raise ValueError(_nearest(value, names))
        return value

    return check


def _nearest(word, names):
    match = difflib.get_close_matches(str(word), names, n=1, cutoff=0.5)
    return f"; did you mean {match[0]!r}?" if match else ""


def _integers(value):
    """3 and '0,1,2' as lists, because papermill's -p takes no list."""
    if isinstance(value, str):
        value = [_integer(part) for part in value.split(",")]
    return [value] if isinstance(value, int) and not isinstance(value, bool) else value


def _integer(text):
    return int(text) if text.strip().lstrip("-").isdigit() else text


def distinct(values):
    if len(set(values)) < len(values):
        raise ValueError
    return values


Text = Annotated[str, StringConstraints(min_length=1)]
# Far above all that makes sense, far below where float32 and int64 end.
MOST, MOST_WHOLE = 1e6, 10**9
Positive = Annotated[float, allowed("a number above 0, at most a million", gt=0, le=MOST)]
NonNegative = Annotated[float, allowed("a number from 0 to a million", ge=0, le=MOST)]
Count = Annotated[int, allowed("a whole number from 1 to a billion", ge=1, le=MOST_WHOLE)]
Whole = Seed = Annotated[int, allowed("a whole number from 0 to a billion", ge=0, le=MOST_WHOLE)]
Decay = Annotated[float, allowed("a number from 0 to below 1", ge=0, lt=1)]
Flag = Annotated[bool, allowed("True or False")]
SEEDS = "one or more distinct whole numbers from 0 to a billion, such as 0,1,2"
Seeds = Annotated[
    list[Seed], BeforeValidator(_integers), AfterValidator(distinct), allowed(SEEDS, min_length=1)
]
THREADS = "a whole number from 1 to 1024: CPU threads, part of what makes rows repeat"
Threads = Annotated[int, allowed(THREADS, ge=1, le=1024)]
Alpha = Annotated[float, allowed("a failure probability between 0 and 1", gt=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
RowsFile = Annotated[
    Text | None, allowed("None or the path to write, ending in .csv", pattern=r"\.csv$")
]


class Checked(BaseModel):
    """Parameters: unknown names, wrong types and impossible values are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, protected_namespaces=())
    writes: ClassVar[str] = "rows_file"  # the parameter that names a notebook's result, if any

    @classmethod
    def check(cls, values, where=""):
        """Validated settings; ``where`` begins the sentence about wrong ones.

        Raises
        ------
        SettingsError
            On the first unknown name, wrong type or impossible value.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            raise SettingsError(where + cls._sentence(error.errors()[0])) from None

    @classmethod
    def from_notebook(cls, namespace):
        """Settings from a notebook's own names: its parameters cell, and what papermill injected.

        papermill lets an unknown name pass; its injected cell is read here, so that a typo is found
        before any computing, as is a result that could not be written after it.
        """
        names = [*cls.model_fields, *_injected(namespace.get("In", []))]
        settings = cls.check({name: namespace[name] for name in names if name in namespace})
        path = getattr(settings, cls.writes, None)
        if path and (reason := unwritable(path)):
            needed = "a path where a file can be written"
            raise SettingsError(f"{cls.writes} must be {needed}, not {path!r} ({reason}).")
        return settings

    @classmethod
    def _sentence(cls, error):
        name = str(error["loc"][0]) if error["loc"] else ""
        if error["type"] == "extra_forbidden":
            known = "; known: " + (", ".join(cls.model_fields) or "none")
            return f"unknown parameter {name!r}{_nearest(name, cls.model_fields) or known}"
        if error["type"] == "missing":
            return f"parameter {name!r} is missing"
        own = error["type"] == "value_error"
        reason = str(error.get("ctx", {}).get("error", "")) if own else ""
        if not name:
            return reason
        description = cls.model_fields[name].description or "of its kind"
        return f"{name} must be {description}, not {error['input']!r}{reason}"


def _injected(cells):
    """The names that papermill's cell assigns, of the cells that a kernel has run."""
    of_papermill = [cell for cell in cells if cell.lstrip().startswith("# Parameters")]
    for cell in of_papermill[-1:]:
        for node in ast.walk(ast.parse(cell)):
            if isinstance(node, ast.Assign):
                yield from (target.id for target in node.targets)


# What an option may be, by its annotation in the method or else by the type of its default.
KINDS = {
    bool: Flag,
    int: Count,
    float: NonNegative,
    str: Text,
    Annotated[int, Ge(0)]: Whole,
    Annotated[float, Gt(0)]: Positive,
    Annotated[float, Interval(ge=0, lt=1)]: Decay,
}


def check_options(function, options, where, after=None):
    """Options of a trainer, an attack or a control, against the signature that will take them.

    Parameters
    ----------
    function : callable
        A function or a dataclass.
    options : dict
    where : str
        Begins the sentence about wrong ones.
    after : str, optional
        The options are the parameters behind this one; all of them if None.

    Returns
    -------
    dict
        The options, as they were given.

    Raises
    ------
    SettingsError
        If one is unknown or impossible.
    """
    parameters = list(inspect.signature(function).parameters.values())
    names = [parameter.name for parameter in parameters]
    first = 0 if after is None else names.index(after) + 1
    fields = {p.name: (_kind(p), p.default) for p in parameters[first:]}
    create_model("Options", __base__=Checked, **fields).check(options, where)
    return options


def _kind(parameter):
    annotation = parameter.annotation
    if annotation is parameter.empty:
        annotation = type(parameter.default)
    if get_origin(annotation) is Literal:
        return one_of(get_args(annotation))
    return KINDS.get(annotation, Any)


class DataSettings(Checked):
    """Which images."""

    dataset: Annotated[
        Text, allowed(f"mnist5k, {', '.join(TORCHVISION)} or the path of an .npz file")
    ]
    data_root: Annotated[Text | None, allowed("None or the folder with torchvision's files")]
    split_seed: Seed
    train_size: Annotated[int | None, allowed("None for all, or a whole number, 1 or above", ge=1)]


TRAINER_OPTIONS = "a dict of the trainer's own parameters, such as {'draws': 4}"


class Settings(DataSettings):
    """What the experiments share."""

    trainer: one_of(TRAINERS)
    trainer_options: Annotated[dict[str, Any], allowed(TRAINER_OPTIONS)]
    sigma: Positive
    architecture: one_of(MODELS)
    normalisation: one_of(NORMALISATIONS)
    target_class: Annotated[int, allowed("the number of a class, 0 or above", ge=0)]
    device: Annotated[Literal["auto", "cpu", "cuda"], allowed("one of auto, cpu, cuda")]
    threads: Threads


ATTACK_OPTIONS = (
    "a dict of the method's own parameters, such as {'step': 0.01}; empty for a fixed pattern"
)
FRACTION = "a share of the target class, above 0 and at most 1"
POISON_FILE = "the path of a poison file ending in .npz"


class PoisonSettings(Settings):
    """notebooks/poison.ipynb; ``trainer`` is the crafting trainer."""

    attack: one_of((*METHODS, *SEARCHES, *CONTROLS))
    attack_options: Annotated[dict[str, Any], allowed(ATTACK_OPTIONS)]
    eps_linf: Annotated[float, allowed("a number between 0 and 1, pixel units", ge=0, le=1)]
    fraction: Annotated[float, allowed(FRACTION, gt=0, le=1)]
    steps: Count
    seed: Seed
    poison_file: Annotated[
        Text | None, allowed("None or the path to write, ending in .npz", pattern=r"\.npz$")
    ]
    writes: ClassVar[str] = "poison_file"


class ReadsPoison(Settings):
    """What the notebooks share that read a poison file."""

    poison_file: Annotated[Text, allowed(POISON_FILE, pattern=r"\.npz$")]
    rows_file: RowsFile

    @model_validator(mode="after")
    def _apart(self):
        named = [path and Path(path).with_suffix("") for path in (self.poison_file, self.rows_file)]
        if all(named) and named[0] == named[1]:
            reason = "its manifest would take the place of the poison file's"
            raise ValueError(f"rows_file must not be {self.rows_file!r}: {reason}")
        return self


class VictimSettings(ReadsPoison):
    """notebooks/victim.ipynb; ``trainer`` is the victim trainer."""

    poison_file: Annotated[
        Text | None, allowed(f"None for clean data, or {POISON_FILE}", pattern=r"\.npz$")
    ]
    eight_bit: bool = allowed(
        "True to train on the poison rounded to 8 bits, False for the float poison"
    )
    seeds: Seeds
    epochs: Count
    batch: Count
    lr: Positive
    schedule: Annotated[Literal[tuple(SCHEDULES)], allowed("one of " + ", ".join(SCHEDULES))]
    weight_decay: NonNegative
    augmentation: Annotated[
        Literal["none", "crop", "crop_flip"], allowed("one of none, crop, crop_flip")
    ]
    curation: one_of(CURATIONS)
    points: Annotated[
        int | None,
        allowed("None for all test points of the class, or a whole number, 1 or above", ge=1),
    ]
    n0: Count
    n: Count
    alpha: Alpha
    certify_batch: Count
    precision: Annotated[Literal[tuple(PRECISIONS)], allowed("one of " + ", ".join(PRECISIONS))]
    stop_wrong: bool = allowed("True to make no further draws where the guess is wrong, else False")
    compiled: Annotated[bool | None, allowed("None to compile where it pays, True or False")]
    noise_seed: Annotated[int, allowed("a whole number from 0 to 2147483647", ge=0, lt=2**31)]
    empirical_steps: Annotated[
        int,
        allowed(
            "0 for no attack on the victim, or a whole number of PGD steps up to a thousand",
            ge=0,
            le=1000,
        ),
    ]

    @model_validator(mode="after")
    def _differentiable(self):
        if self.empirical_steps and self.precision == "int8":
            reason = "an attack needs the gradient that integers do not have"
            raise ValueError(f"empirical_steps must be 0 with precision 'int8': {reason}")
        return self

    @property
    def recipe(self):
        """What :func:`pacd.train.train` is told."""
        return self.model_dump(include={"epochs", "batch", "lr", "schedule", "weight_decay"})

    @property
    def draws(self):
        """What :func:`pacd.certify.certify` is told."""
        chosen = self.model_dump(include={"n0", "n", "alpha", "stop_wrong"})
        return {"seed": self.noise_seed, **chosen}

    @property
    def attack(self):
        """What :func:`pacd.empirical.empirical_radius` is told."""
        chosen = self.model_dump(include={"n", "alpha"})
        return {"seed": self.noise_seed, "steps": self.empirical_steps, **chosen}


class CuratorSettings(ReadsPoison):
    """notebooks/curator.ipynb; ``trainer`` trains the network that the detectors use."""

    eight_bit: bool = allowed(
        "True to look at the poison rounded to 8 bits, False for the float poison"
    )
    epochs: Count
    seed: Seed


class ShortcutSettings(ReadsPoison):
    """notebooks/shortcut.ipynb, what victims make of a poison's pattern; ``trainer`` is theirs."""

    seeds: Seeds
    epochs: Count
    batch: Count
    lr: Positive
    strengths: Annotated[
        list[Annotated[float, Field(ge=-MOST, le=MOST)]],
        AfterValidator(distinct),
        allowed("one or more distinct numbers", min_length=1),
    ]
    points: Count
    draws: Count


class LinearSettings(DataSettings):
    """notebooks/linear_vs_lenet.ipynb, the theory's test on digits."""

    sigma: Positive
    eps_linf: Annotated[list[Share], allowed("one or more numbers between 0 and 1", min_length=1)]
    seeds: Seeds
    copies: Count
    epochs: Count
    certify_points: Annotated[int, allowed("a whole number from 1 to 100", ge=1, le=100)]
    n: Count
    alpha: Alpha
    threads: Threads
    rows_file: RowsFile


class AuditSettings(Checked):
    """notebooks/audit.ipynb, the hypergradient and its solvers."""

    seed: Seed
    sigma: Positive
    damping: Positive
    hidden: Count
    train_size: Annotated[int, allowed("a whole number from 200 to 4000", ge=200, le=4000)]
    epochs: Count
    images: Annotated[int, allowed("a whole number from 40 to 200", ge=40, le=200)]
    draws: Annotated[int, allowed("a whole number, 2 or above", ge=2)]
    iterations: Annotated[int, allowed("a whole number, 10 or above", ge=10)]
    threads: Threads
    rows_file: RowsFile
