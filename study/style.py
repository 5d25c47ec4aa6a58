"""How the book's pages look: colours, line styles, and the names that readers know things by."""

import itertools

import matplotlib.pyplot as plt

from pacd.losses import TRAINERS

# Okabe and Ito's palette: told apart by colour-blind readers. The last ones are for readers' own.
BLACK = "#000000"
BLUE = "#0072B2"
VERMILION = "#D55E00"
GREEN = "#009E73"
PURPLE = "#CC79A7"
ORANGE = "#E69F00"
SKY = "#56B4E9"
YELLOW = "#F0E442"
GREY = "#767676"  # not of the palette: for what stands in the background
PALETTE = (BLACK, BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, YELLOW)


class Colours(dict):
    """One colour for a name everywhere; a new name takes the next one of the palette."""

    def __missing__(self, name):
        return self.setdefault(name, PALETTE[len(self) % len(PALETTE)])


class Names(dict):
    """Names for readers; one that has none is its own."""

    def __missing__(self, name):
        return name


TRAINER_COLOUR = Colours(zip(TRAINERS, itertools.cycle(PALETTE)))
# Clean is solid, PACD dashed, a control dotted: told apart without colour too.
ATTACK_STYLE = {"none": "-", "first_order": "--", "direct_search": "-."}
ATTACK_COLOUR = {"none": BLACK, "first_order": BLUE, "direct_search": VERMILION}

ATTACK_NAME = {
    "none": "clean",
    "first_order": "PACD",
    "cg": "PACD, CG",
    "direct_search": "PACD, direct search",
    "neumann": "PACD, Neumann",
    "approxgrad": "authors' setting",
    "unknown": "poison of another make",
    "gradient_matching": "gradient matching",
    "accuracy": "against standard training",
    "class_wise_learned": "control: class-wise learned",
    "extras.unlearnable:separable_patches": "control: separable patches (LSP)",
    "extras.unlearnable:autoregressive": "control: autoregressive noise (AR)",
    "extras.unlearnable:linear_surrogate": "control: linear surrogate (PIL)",
    "extras.unlearnable:stable_error_minimising": "control: stable error minimising (SEM)",
    "extras.unlearnable:convolution": "convolution (CUDA)",
}
TRAINER_NAME = Names({name: name for name in TRAINERS})
TRAINER_NAME |= {"gaussian": "GA", "smoothadv": "SmoothAdv", "macer": "MACER"}
DATA_NAME = {
    "mnist": "MNIST",
    "cifar10": "CIFAR-10",
    "mnist5k": "5,000 MNIST digits",
    "fashion_mnist": "Fashion-MNIST",
    "data/downloads/cifar10-jpeg.npz": "CIFAR-10, JPEG copy",
}
COLUMN_NAME = {
    "l2": "mean L2",
    "sigma": "σ",
    "eps_linf": "eps",
    "crafting_trainer": "made against",
    "normalisation": "scaling of pixels",
    "trainer": "victim",
    "trainer_options": "its options",
}

# Figures are six inches wide, so that on a phone of 390 pixels their text is nine pixels high.
TEXT = 11.6  # points
SIZED = ("font.size", "axes.titlesize", "legend.fontsize", "figure.labelsize")
BARE = {f"axes.spines.{side}": False for side in ("top", "right")}
plt.rcParams.update({**dict.fromkeys(SIZED, TEXT), **BARE, "svg.fonttype": "none"})
# Where a legend would cover what it names.
BELOW = {"frameon": False, "loc": "upper center", "bbox_to_anchor": (0.5, -0.23)}


def line_style(attack):
    """Matplotlib's line style of an attack."""
    return ATTACK_STYLE.get(attack, ":")


def attack_colour(attack):
    """The colour of an attack; controls stand in the background."""
    return ATTACK_COLOUR.get(attack, GREY)


def attack_name(attack):
    """An attack as readers know it; what has no name of its own and is not brought is a control."""
    own = attack if ":" in attack else f"control: {spaced(attack)}"
    return ATTACK_NAME.get(attack, own)


def control_name(attack):
    """The same in a sentence that says already that it is a control."""
    return attack_name(attack).removeprefix("control: ")


def column_name(name):
    """A column's name in a table for readers."""
    return COLUMN_NAME.get(name, spaced(name))


def spaced(name):
    """A name of the code as words, without the path of what was brought."""
    return name.split(":")[-1].replace("_", " ")


def data_name(dataset, train_size):
    """A data set as readers know it, with the number of training images where it was cut."""
    name = DATA_NAME.get(dataset, dataset)
    cut = train_size and train_size > 0  # neither None nor NaN
    return f"{name}, {train_size:,.0f} training images" if cut else name


def named_values(values):
    """A column's values (Series) as readers know them."""
    names = {"attack": attack_name, "trainer": TRAINER_NAME.__getitem__}
    names["crafting_trainer"] = names["trainer"]
    return values.map(names.get(values.name, _plain))


def _plain(value):
    return f"{value:g}" if isinstance(value, float) else str(value)
