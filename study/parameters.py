"""Parameters that are checked: what is allowed, and one clear sentence where one is not."""

import ast
import difflib
import inspect
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
)

from study.results import unwritable


class SettingsError(ValueError):
    """One sentence: the parameter, what is allowed, and the nearest known name."""


def allowed(text, **limits):
    """A field whose description completes the sentence 'NAME must be ...'."""
    return Field(description=text, **limits)


def one_of(names):
    names = tuple(names)
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
