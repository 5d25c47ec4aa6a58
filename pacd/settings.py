"""The parameters of the experiment notebooks: what is allowed, and one clear sentence where something is not."""

import ast
import difflib
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError, model_validator

# The names that other modules define, repeated here so that a typo is found before torch is imported
# (tests/test_settings.py holds the two equal).
TRAINERS = ("standard", "gaussian", "smoothadv", "macer")
ARCHITECTURES = ("lenet", "mlp", "cnn", "resnet20", "resnet56", "vgg")
NORMALISATIONS = ("centred", "none", "mnist")
METHODS = ("first_order", "cg", "neumann", "approxgrad", "accuracy", "gradient_matching")
SEARCHES = ("direct_search",)
BASELINES = (
    "uniform", "checkerboard", "random_sign", "random_uniform", "low_frequency", "mean_difference", "error_minimising",
    "robust_error_minimising", "class_wise_learned",
)  # fmt: skip
CURATIONS = (
    "none", "lowpass", "jpeg", "black_point", "levels", "remove_knn_pixels", "remove_knn_features", "remove_spectral",
    "remove_high_loss", "remove_low_loss", "remove_background",
)  # fmt: skip


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
        value = [int(part) if part.strip().lstrip("-").isdigit() else part for part in value.split(",")]
    return [value] if isinstance(value, int) and not isinstance(value, bool) else value


Text = Annotated[str, StringConstraints(min_length=1)]
Positive = Annotated[float, allowed("a number above 0", gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, allowed("a number, 0 or above", ge=0, allow_inf_nan=False)]
Count = Annotated[int, allowed("a whole number, 1 or above", ge=1)]
Seed = Annotated[int, allowed("a whole number, 0 or above", ge=0)]
Seeds = Annotated[
    list[Annotated[int, Field(ge=0)]], BeforeValidator(_integers), allowed("one or more whole numbers, such as 0,1,2", min_length=1)
]
Threads = Annotated[int, allowed("a whole number, 1 or above: CPU threads, part of what makes rows repeat", ge=1)]
Alpha = Annotated[float, allowed("a failure probability between 0 and 1", gt=0, lt=1)]
RowsFile = Annotated[Text | None, allowed("None or the path to write, ending in .csv", pattern=r"\.csv$")]


class Checked(BaseModel):
    """Parameters of a notebook: unknown names, wrong types and impossible values are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, protected_namespaces=())

    @classmethod
    def check(cls, values):
        """Validated settings.

        Raises
        ------
        SettingsError
            On the first unknown name, wrong type or impossible value.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            raise SettingsError(cls._sentence(error.errors()[0])) from None

    @classmethod
    def from_notebook(cls, namespace):
        """Settings from a notebook's own names: its parameters cell, and what papermill injected after it.

        papermill lets an unknown name pass; its injected cell is read here, so that a typo is found before any
        computing.
        """
        injected = [cell for cell in namespace.get("In", []) if cell.lstrip().startswith("# Parameters")][-1:]
        assigned = [
            target.id
            for cell in injected
            for node in ast.walk(ast.parse(cell))
            if isinstance(node, ast.Assign)
            for target in node.targets
        ]
        names = [*cls.model_fields, *assigned]
        return cls.check({name: namespace[name] for name in names if name in namespace})

    @classmethod
    def _sentence(cls, error):
        name = str(error["loc"][0]) if error["loc"] else ""
        if error["type"] == "extra_forbidden":
            return f"unknown parameter {name!r}{_nearest(name, cls.model_fields) or '; known: ' + ', '.join(cls.model_fields)}"
        if error["type"] == "missing":
            return f"parameter {name!r} is missing"
        reason = str(error.get("ctx", {}).get("error", "")) if error["type"] == "value_error" else ""
        if not name:
            return reason
        return f"{name} must be {cls.model_fields[name].description}, not {error['input']!r}{reason}"


class DataSettings(Checked):
    """Which images."""

    dataset: Annotated[Text, allowed("mnist5k, mnist, fashion_mnist, cifar10 or the path of an .npz file")]
    data_root: Annotated[Text | None, allowed("None or the folder with torchvision's files")]
    split_seed: Seed
    train_size: Annotated[int | None, allowed("None for all, or a whole number, 1 or above", ge=1)]


class Settings(DataSettings):
    """What both experiments share."""

    trainer: one_of(TRAINERS)
    trainer_options: Annotated[dict[str, Any], allowed("a dict of the trainer's own parameters, such as {'draws': 4}")]
    sigma: Positive
    architecture: one_of(ARCHITECTURES)
    normalisation: one_of(NORMALISATIONS)
    target_class: Annotated[int, allowed("the number of a class, 0 or above", ge=0)]
    device: Annotated[Literal["auto", "cpu", "cuda"], allowed("one of auto, cpu, cuda")]
    threads: Threads


class PoisonSettings(Settings):
    """notebooks/poison.ipynb; ``trainer`` is the crafting trainer."""

    attack: one_of(METHODS + SEARCHES + BASELINES)
    attack_options: Annotated[dict[str, Any], allowed("a dict of the method's own parameters, such as {'step': 0.01}; empty for a fixed pattern")]
    eps_linf: Annotated[float, allowed("a number between 0 and 1, pixel units", ge=0, le=1)]
    fraction: Annotated[float, allowed("a share of the target class, above 0 and at most 1", gt=0, le=1)]
    steps: Count
    seed: Seed
    poison_file: Annotated[Text | None, allowed("None or the path to write, ending in .npz", pattern=r"\.npz$")]


class VictimSettings(Settings):
    """notebooks/victim.ipynb; ``trainer`` is the victim trainer."""

    poison_file: Annotated[Text | None, allowed("None for clean data, or the path of a poison file ending in .npz", pattern=r"\.npz$")]
    eight_bit: bool = allowed("True to train on the poison rounded to 8 bits, False for the float poison")
    seeds: Seeds
    epochs: Count
    batch: Count
    lr: Positive
    schedule: Annotated[Literal["constant", "cosine"], allowed("one of constant, cosine")]
    weight_decay: NonNegative
    augmentation: Annotated[Literal["none", "crop", "crop_flip"], allowed("one of none, crop, crop_flip")]
    curation: one_of(CURATIONS)
    points: Annotated[int | None, allowed("None for all test points of the class, or a whole number, 1 or above", ge=1)]
    n0: Count
    n: Count
    alpha: Alpha
    certify_batch: Count
    precision: Annotated[Literal["float32", "bfloat16", "int8"], allowed("one of float32, bfloat16, int8")]
    stop_wrong: bool = allowed("True to make no further draws where the guess is wrong, else False")
    compiled: Annotated[bool | None, allowed("None to compile where it pays, True or False")]
    noise_seed: Annotated[int, allowed("a whole number from 0 to 2147483647", ge=0, lt=2**31)]
    empirical_steps: Annotated[int, allowed("0 for no attack on the victim, or a whole number of PGD steps, 1 or above", ge=0)]
    rows_file: RowsFile

    @model_validator(mode="after")
    def _consistent(self):
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds must be distinct, not {self.seeds}")
        if self.empirical_steps and self.precision == "int8":
            raise ValueError("empirical_steps must be 0 with precision 'int8': an attack needs the gradient that integers do not have")
        return self


class CuratorSettings(Settings):
    """notebooks/curator.ipynb; ``trainer`` trains the network whose features and losses the detectors use."""

    poison_file: Annotated[Text, allowed("the path of a poison file ending in .npz", pattern=r"\.npz$")]
    eight_bit: bool = allowed("True to look at the poison rounded to 8 bits, False for the float poison")
    epochs: Count
    seed: Seed
    rows_file: RowsFile


class ShortcutSettings(Settings):
    """notebooks/shortcut.ipynb, what victims make of the pattern that a poison's images share; ``trainer`` is theirs."""

    poison_file: Annotated[Text, allowed("the path of a poison file ending in .npz", pattern=r"\.npz$")]
    seeds: Seeds
    epochs: Count
    batch: Count
    lr: Positive
    strengths: Annotated[list[float], allowed("one or more numbers", min_length=1)]
    points: Count
    draws: Count
    rows_file: RowsFile


class LinearSettings(DataSettings):
    """notebooks/linear_vs_lenet.ipynb, the theory's test on digits."""

    sigma: Positive
    eps_linf: Annotated[list[Annotated[float, Field(ge=0, le=1)]], allowed("one or more numbers between 0 and 1", min_length=1)]
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
