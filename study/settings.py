"""The parameters of the experiment notebooks."""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from pacd.names import (
    ARCHITECTURES,
    BASELINES,
    CURATIONS,
    METHODS,
    NORMALISATIONS,
    SEARCHES,
    TORCHVISION,
    TRAINERS,
)
from study.checked import (
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
    Text,
    Threads,
    allowed,
    distinct,
    one_of,
)


class DataSettings(Checked):
    """Which images."""

    dataset: Annotated[
        Text, allowed(f"mnist5k, {', '.join(TORCHVISION)} or the path of an .npz file")
    ]
    data_root: Annotated[Text | None, allowed("None or the folder with torchvision's files")]
    split_seed: Seed
    train_size: Annotated[int | None, allowed("None for all, or a whole number, 1 or above", ge=1)]


class Settings(DataSettings):
    """What both experiments share."""

    trainer: one_of(TRAINERS)
    trainer_options: Annotated[
        dict[str, Any], allowed("a dict of the trainer's own parameters, such as {'draws': 4}")
    ]
    sigma: Positive
    architecture: one_of(ARCHITECTURES)
    normalisation: one_of(NORMALISATIONS)
    target_class: Annotated[int, allowed("the number of a class, 0 or above", ge=0)]
    device: Annotated[Literal["auto", "cpu", "cuda"], allowed("one of auto, cpu, cuda")]
    threads: Threads


class PoisonSettings(Settings):
    """notebooks/poison.ipynb; ``trainer`` is the crafting trainer."""

    attack: one_of(METHODS + SEARCHES + BASELINES)
    attack_options: Annotated[
        dict[str, Any],
        allowed(
            "a dict of the method's own parameters, such as {'step': 0.01}; empty for a fixed pattern"
        ),
    ]
    eps_linf: Annotated[float, allowed("a number between 0 and 1, pixel units", ge=0, le=1)]
    fraction: Annotated[
        float, allowed("a share of the target class, above 0 and at most 1", gt=0, le=1)
    ]
    steps: Count
    seed: Seed
    poison_file: Annotated[
        Text | None, allowed("None or the path to write, ending in .npz", pattern=r"\.npz$")
    ]
    writes: ClassVar[str] = "poison_file"


class ReadsPoison(Settings):
    """What the notebooks share that read a poison file."""

    poison_file: Annotated[
        Text, allowed("the path of a poison file ending in .npz", pattern=r"\.npz$")
    ]
    rows_file: RowsFile

    @model_validator(mode="after")
    def _apart(self):
        if (
            self.poison_file
            and self.rows_file
            and Path(self.poison_file).with_suffix("") == Path(self.rows_file).with_suffix("")
        ):
            raise ValueError(
                f"rows_file must not be {self.rows_file!r}: its manifest would take the place of the poison file's"
            )
        return self


class VictimSettings(ReadsPoison):
    """notebooks/victim.ipynb; ``trainer`` is the victim trainer."""

    poison_file: Annotated[
        Text | None,
        allowed(
            "None for clean data, or the path of a poison file ending in .npz", pattern=r"\.npz$"
        ),
    ]
    eight_bit: bool = allowed(
        "True to train on the poison rounded to 8 bits, False for the float poison"
    )
    seeds: Seeds
    epochs: Count
    batch: Count
    lr: Positive
    schedule: Annotated[Literal["constant", "cosine"], allowed("one of constant, cosine")]
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
    precision: Annotated[
        Literal["float32", "bfloat16", "int8"], allowed("one of float32, bfloat16, int8")
    ]
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
            raise ValueError(
                "empirical_steps must be 0 with precision 'int8': an attack needs the gradient that integers do not have"
            )
        return self


class CuratorSettings(ReadsPoison):
    """notebooks/curator.ipynb; ``trainer`` trains the network whose features and losses the detectors use."""

    eight_bit: bool = allowed(
        "True to look at the poison rounded to 8 bits, False for the float poison"
    )
    epochs: Count
    seed: Seed


class ShortcutSettings(ReadsPoison):
    """notebooks/shortcut.ipynb, what victims make of the pattern that a poison's images share; ``trainer`` is theirs."""

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
    eps_linf: Annotated[
        list[Annotated[float, Field(ge=0, le=1)]],
        allowed("one or more numbers between 0 and 1", min_length=1),
    ]
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
