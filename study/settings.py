"""The parameters of the notebooks, each one's kind and range."""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from pacd.approxgrad import PUBLISHED
from pacd.attack import METHODS
from pacd.controls import LEARNED, PATTERNS
from pacd.counts import fewest_draws
from pacd.curation import CURATIONS
from pacd.data import TORCHVISION
from pacd.direct_search import SEARCHES
from pacd.empirical import RADII
from pacd.losses import TRAINERS
from pacd.models import MODELS, NORMALISATIONS
from pacd.poison_file import whole_steps
from pacd.train import OPTIMIZERS, SCHEDULES, Recipe
from study.named import ATTACK, CURATION, FIRST, LOSS, NETWORK, PATTERN
from study.parameters import (
    MOST,
    MOST_WHOLE,
    Alpha,
    Checked,
    Count,
    NonNegative,
    Positive,
    RowsFile,
    Seed,
    Seeds,
    Share,
    Text,
    Threads,
    allowed,
    distinct,
    one_named,
    one_of,
)

CONTROLS = (*PATTERNS, *LEARNED)
Evaluations = Annotated[
    float, allowed("a number of gradient evaluations, above 0 and at most 1e15", gt=0, le=1e15)
]


class DataSettings(Checked):
    """Which images."""

    dataset: Annotated[
        Text, allowed(f"mnist5k, {', '.join(TORCHVISION)} or the path of an .npz file")
    ]
    data_root: Annotated[Text | None, allowed("None or the folder with torchvision's files")]
    split_seed: Seed
    train_size: Annotated[int | None, allowed("None for all, or a whole number, 1 or above", ge=1)]


Device = Annotated[Literal["auto", "cpu", "cuda"], allowed("one of auto, cpu, cuda")]
PRECISIONS = "auto", "float32", "mixed", "int8"
CERTIFY_BATCH = "None, or a whole number, 1 or above"
TRAINER_OPTIONS = "a dict of the trainer's own parameters, such as {'draws': 4}"


class Settings(DataSettings):
    """What the experiments share."""

    trainer: one_named(TRAINERS, LOSS)
    trainer_options: Annotated[dict[str, Any], allowed(TRAINER_OPTIONS)]
    sigma: Positive
    architecture: one_named(MODELS, NETWORK)
    normalisation: one_named(NORMALISATIONS, FIRST)
    target_class: Annotated[int, allowed("the number of a class, 0 or above", ge=0)]
    device: Device
    threads: Threads


ATTACK_OPTIONS = (
    "a dict of the method's own parameters, such as {'step': 0.01}; empty for a fixed pattern"
)
FRACTION = "a share of the target class, above 0 and at most 1"
POISON_FILE = "the path of a poison file ending in .npz"


class PoisonSettings(Settings):
    """notebooks/poison.ipynb; ``trainer`` is the crafting trainer."""

    attack: one_named((*METHODS, *PUBLISHED, *SEARCHES, *CONTROLS), ATTACK, PATTERN)
    attack_options: Annotated[dict[str, Any], allowed(ATTACK_OPTIONS)]
    eps_linf: Annotated[float, allowed("a number between 0 and 1, pixel units", ge=0, le=1)]
    fraction: Annotated[float, allowed(FRACTION, gt=0, le=1)]
    steps: Count
    seed: Seed
    poison_file: Annotated[
        Text | None, allowed("None or the path to write, ending in .npz", pattern=r"\.npz$")
    ]
    writes: ClassVar[str] = "poison_file"

    @field_validator("eps_linf")
    @classmethod
    def _a_step(cls, value):
        if not whole_steps(value):
            raise ValueError(": below 1/255, an 8-bit step of 0.004, no pixel changes")
        return value


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


class Certificate(Checked):
    """How test points are certified."""

    points: Annotated[
        int | None,
        allowed("None for all test points of the class, or a whole number, 1 or above", ge=1),
    ]
    n0: Count
    n: Count
    alpha: Alpha
    certify_batch: Annotated[int | None, allowed(CERTIFY_BATCH, ge=1, le=MOST_WHOLE)]
    precision: Annotated[Literal[PRECISIONS], allowed("one of " + ", ".join(PRECISIONS))]
    stop_wrong: bool = allowed("True to make no further draws where the guess is wrong, else False")
    radii: Annotated[
        list[Annotated[float, Field(ge=0, le=MOST)]] | None,
        allowed("None, or one or more radii, 0 or above, pixel units", min_length=1),
    ]
    randomised: bool = allowed("True for the randomised bound, False for Clopper and Pearson's")
    compiled: Annotated[bool | None, allowed("None to compile where it pays, True or False")]
    noise_seed: Seed  # twice it and one more is below the seeds of pacd.empirical's generator

    def fewest(self):
        """The least n, and why."""
        return fewest_draws(self.alpha), "no point can be certified"

    @model_validator(mode="after")
    def _enough_draws(self):
        fewest, reason = self.fewest()
        if self.n < fewest:
            allowed = f"{fewest} or more at alpha {self.alpha:g}, or {reason}"
            raise ValueError(f"n must be {allowed}, not {self.n}")
        return self

    @property
    def draws(self):
        """What :func:`pacd.certify.certify` is told."""
        chosen = self.model_dump(include={"n0", "n", "alpha", "stop_wrong", "radii", "randomised"})
        return {"seed": self.noise_seed, **chosen}


class VictimSettings(Certificate, ReadsPoison):
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
    optimizer: Annotated[Literal[tuple(OPTIMIZERS)], allowed("one of " + ", ".join(OPTIMIZERS))]
    training_precision: Annotated[
        Literal["float32", "bfloat16"], allowed("one of float32, bfloat16")
    ]
    augmentation: Annotated[
        Literal["none", "crop", "crop_flip"], allowed("one of none, crop, crop_flip")
    ]
    curation: one_named(CURATIONS, CURATION)
    empirical_steps: Annotated[
        int,
        allowed(
            "0 for no attack on the victim, or a whole number of PGD steps up to a thousand",
            ge=0,
            le=1000,
        ),
    ]

    def fewest(self):
        if not self.empirical_steps:
            return super().fewest()
        # The attack's tests are two-sided, one for each radius.
        return fewest_draws(self.alpha / len(RADII) / 2), "no attack on a victim can succeed"

    @property
    def recipe(self):
        """What :func:`pacd.train.train` is told."""
        return self.model_dump(include=set(Recipe._fields))

    @property
    def attack(self):
        """What :func:`pacd.empirical.empirical_radius` is told."""
        chosen = self.model_dump(include={"n", "alpha"})
        return {"seed": self.noise_seed, "steps": self.empirical_steps, **chosen}


class CertifySettings(Certificate, DataSettings):
    """notebooks/certify.ipynb: a trained network of another make."""

    architecture: one_named(MODELS, NETWORK)
    weights_file: Annotated[
        Text, allowed("the path of a file ending in .safetensors", pattern=r"\.safetensors$")
    ]
    sigma: Positive
    target_class: Annotated[
        int | None, allowed("None for all, or the number of a class, 0 or above", ge=0)
    ]
    device: Device
    threads: Threads
    rows_file: RowsFile


class CuratorSettings(ReadsPoison):
    """notebooks/curator.ipynb; ``trainer`` trains the network that the detectors use."""

    eight_bit: bool = allowed(
        "True to look at the poison rounded to 8 bits, False for the float poison"
    )
    epochs: Count
    seed: Seed


class CostSettings(Settings):
    """notebooks/cost.ipynb; ``trainer`` is that of the victims, and the crafting trainer."""

    eps_linf: Annotated[float, allowed("a number between 0 and 1, pixel units", ge=0, le=1)]
    attack_options: Annotated[
        dict[str, Any], allowed("a dict of the methods' own parameters, such as {'draws': 4}")
    ]
    steps: Count
    authors_steps: Count
    first: Evaluations
    growth: Annotated[float, allowed("a number above 1, at most a million", gt=1, le=MOST)]
    budget: Evaluations
    controls: Annotated[
        list[one_of(CONTROLS)],
        AfterValidator(distinct),
        allowed(f"one or more distinct of {', '.join(CONTROLS)}", min_length=1),
    ]
    seeds: Annotated[
        Seeds, allowed("two or more distinct whole numbers, such as 0,1", min_length=2)
    ]
    epochs: Count
    batch: Count
    lr: Positive
    points: Count
    n: Count
    certify_batch: Annotated[int | None, allowed(CERTIFY_BATCH, ge=1, le=MOST_WHOLE)]
    images: Count
    iterations: Count
    rows_file: RowsFile


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


class FirstLayerSettings(DataSettings):
    """notebooks/first_layer_theory.ipynb: constants subtracted from pixels, and a bright poison."""

    target_class: Annotated[int, allowed("the number of a class, 0 or above", ge=0)]
    others: Annotated[
        list[Annotated[int, Field(ge=0)]],
        AfterValidator(distinct),
        allowed("one other class, such as [3], or empty for all", max_length=1),
    ]
    model: Annotated[Literal["linear", "lenet"], allowed("one of linear, lenet")]
    subtract: Annotated[
        list[Annotated[float, Field(ge=-MOST, le=MOST)]],
        AfterValidator(distinct),
        allowed("one or more distinct numbers, pixel units", min_length=1),
    ]
    divide: Positive
    eps_linf: Annotated[float, allowed("a number between 0 and 1, pixel units", ge=0, le=1)]
    sigma: Positive
    seeds: Seeds
    epochs: Count
    batch: Count
    lr: Positive
    points: Count
    n0: Count
    n: Count
    alpha: Alpha
    gammas: Annotated[
        list[Annotated[float, Field(ge=0, le=MOST)]],
        AfterValidator(distinct),
        allowed("distinct numbers, 0 or above"),
    ]
    steps: Annotated[
        list[Annotated[int, Field(ge=1, le=MOST_WHOLE)]],
        AfterValidator(distinct),
        allowed("distinct whole numbers, 1 or above"),
    ]
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
