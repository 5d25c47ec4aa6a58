"""Parameters that are checked: what is allowed, and one clear sentence where one is not."""

import ast
import difflib
import inspect
from types import UnionType
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin

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
    field_validator,
)

from pacd.data import DataError
from pacd.poison_file import PoisonError
from study import named
from study.results import default_folder, started_from, unwritable
from study.terminal import without_traceback


class SettingsError(ValueError):
    """One sentence: the parameter, what is allowed, and the nearest known name."""


without_traceback(SettingsError, DataError, PoisonError)


def allowed(text, **limits):
    """A field whose description completes the sentence 'NAME must be ...'."""
    return Field(description=text, **limits)


def one_of(names):
    names = tuple(names)
    return Annotated[str, allowed("one of " + ", ".join(names)), BeforeValidator(_known(names))]


def one_named(table, *forms):
    """A key of a table, or MODULE:FUNCTION of one of the forms of :mod:`study.named`."""
    begins = " or ".join(f"({form})" for form in forms)
    brought = f"MODULE:FUNCTION, whose parameters begin with {begins}, then options with defaults"
    text = f"one of {', '.join(table)}, or {brought}"
    return Annotated[str, allowed(text), BeforeValidator(_known(tuple(table), forms))]


def _known(names, forms=()):
    def check(value):
        if forms and named.is_path(value):
            named.function(value, {}, *forms)
        elif value not in names:
            raise ValueError(_nearest(value, names))
        return value

    return check


def _nearest(word, names):
    match = difflib.get_close_matches(str(word), names, n=1, cutoff=0.5)
    return f"; did you mean {match[0]!r}?" if match else ""


def _kinds(annotation):
    """The types that an annotation allows, and those inside its lists."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kinds(arguments[0])
    if origin in (Union, UnionType):
        return set().union(*map(_kinds, arguments))
    if origin is list:
        return {list} | _kinds(arguments[0])
    return {origin or annotation}


def _meant(value, kinds):
    """What was meant by the text that papermill makes of lists, of 1e2 and of YAML's 1e-3."""
    if isinstance(value, str) and not kinds & {str, Literal, Any}:
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return value
    if list in kinds and isinstance(value, (int, float)) and not isinstance(value, bool):
        value = [value]
    if isinstance(value, (list, tuple)):
        return [_whole(part, kinds) for part in value]
    return _whole(value, kinds)


def _whole(value, kinds):
    """A whole number written as 100.0, where only whole ones are allowed."""
    only_whole = int in kinds and float not in kinds
    return int(value) if only_whole and isinstance(value, float) and value.is_integer() else value


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
Seeds = Annotated[list[Seed], AfterValidator(distinct), allowed(SEEDS, min_length=1)]
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
            # A name that is missing comes after one that is misspelt.
            first = min(error.errors(), key=lambda one: one["type"] == "missing")
            raise SettingsError(where + cls._sentence(first, values)) from None

    @classmethod
    def from_notebook(cls, namespace):
        """Settings from a notebook's own names: its parameters cell, and what papermill injected.

        papermill lets an unknown name pass, and so does a cell; both are read here, so that a typo
        is found before any computing, as is a result that could not be written after it.
        """
        started_from()  # now, as the code that runs is read now
        cells = namespace.get("In", [])
        names = [*cls.model_fields, *_own_names(cells, cls.model_fields), *_injected(cells)]
        settings = cls.check({name: namespace[name] for name in names if name in namespace})
        if cls.writes in cls.model_fields:
            _check_writable(cls.writes, getattr(settings, cls.writes))
        return settings

    @field_validator("*", mode="before")
    @classmethod
    def _read(cls, value, info):
        return _meant(value, _kinds(cls.model_fields[info.field_name].annotation))

    @classmethod
    def _sentence(cls, error, values):
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
        field, given = cls.model_fields[name], values[name]
        description = field.description or "of its kind"
        form = _form(_kinds(field.annotation)) if isinstance(given, str) else None
        hint = f"; the form that works: -y '{{{name}: {form}}}'" if form else ""
        return f"{name} must be {description}, not {given!r}{reason}{hint}"


def _form(kinds):
    """How papermill's -y writes a list or a dict."""
    return "{name: value}" if dict in kinds else "[value, value]" if list in kinds else None


def _check_writable(name, path):
    """Refuse a path, or a checkout in the place of one, where no result could be written."""
    place = path or default_folder(name.removesuffix("_file")) / "result"
    if reason := unwritable(place):
        needed = "a path where a file can be written"
        given = repr(path) if path else f"None: {place.parent}"
        raise SettingsError(f"{name} must be {needed}, not {given} ({reason}).")


def _injected(cells):
    """The names that papermill's cell assigns, of the cells that a kernel has run."""
    of_papermill = [cell for cell in cells if cell.lstrip().startswith("# Parameters")]
    for cell in of_papermill[-1:]:
        yield from _assigned(cell)


def _own_names(cells, known):
    """The names that the parameters cell assigns: the last one with most of the known names."""
    assigned = [list(_assigned(cell)) for cell in cells]
    own = [names for names in assigned if 2 * len({*names} & {*known}) > len(known)]
    return own[-1] if own else []


def _assigned(cell):
    """The names that a cell assigns, in its order; none of a cell that is no Python."""
    try:
        lines = ast.parse(cell).body
    except SyntaxError:
        return
    for line in lines:
        targets = line.targets if isinstance(line, ast.Assign) else [getattr(line, "target", None)]
        yield from (target.id for target in targets if isinstance(target, ast.Name))


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
        The options as they were meant: 1e2 is 100 where only whole numbers are allowed.

    Raises
    ------
    SettingsError
        If one is unknown or impossible.
    """
    parameters = list(inspect.signature(function).parameters.values())
    names = [parameter.name for parameter in parameters]
    first = 0 if after is None else names.index(after) + 1
    fields = {p.name: (_kind(p), p.default) for p in parameters[first:]}
    checked = create_model("Options", __base__=Checked, **fields).check(options, where)
    return checked.model_dump(include={*options})


def _kind(parameter):
    annotation = parameter.annotation
    if annotation is parameter.empty or isinstance(annotation, str):
        annotation = type(parameter.default)
    if get_origin(annotation) is Literal:
        return one_of(get_args(annotation))
    return KINDS.get(annotation, Any)
