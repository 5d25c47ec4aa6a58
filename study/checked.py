"""Parameters that are checked: what is allowed, and one clear sentence where something is not."""

import ast
import difflib
import inspect
from typing import Annotated, Any, ClassVar

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
        value = [
            int(part) if part.strip().lstrip("-").isdigit() else part for part in value.split(",")
        ]
    return [value] if isinstance(value, int) and not isinstance(value, bool) else value


def distinct(values):
    if len(set(values)) < len(values):
        raise ValueError
    return values


Text = Annotated[str, StringConstraints(min_length=1)]
MOST, MOST_WHOLE = (
    1e6,
    10**9,
)  # far above all that makes sense, far below where float32 and int64 end
Positive = Annotated[float, allowed("a number above 0, at most a million", gt=0, le=MOST)]
NonNegative = Annotated[float, allowed("a number from 0 to a million", ge=0, le=MOST)]
Count = Annotated[int, allowed("a whole number from 1 to a billion", ge=1, le=MOST_WHOLE)]
Whole = Seed = Annotated[int, allowed("a whole number from 0 to a billion", ge=0, le=MOST_WHOLE)]
Decay = Annotated[float, allowed("a number from 0 to below 1", ge=0, lt=1)]
Flag = Annotated[bool, allowed("True or False")]
Seeds = Annotated[
    list[Seed],
    BeforeValidator(_integers),
    AfterValidator(distinct),
    allowed("one or more distinct whole numbers from 0 to a billion, such as 0,1,2", min_length=1),
]
Threads = Annotated[
    int,
    allowed(
        "a whole number from 1 to 1024: CPU threads, part of what makes rows repeat", ge=1, le=1024
    ),
]
Alpha = Annotated[float, allowed("a failure probability between 0 and 1", gt=0, lt=1)]
RowsFile = Annotated[
    Text | None, allowed("None or the path to write, ending in .csv", pattern=r"\.csv$")
]


class Checked(BaseModel):
    """Parameters of a notebook or of a method: unknown names, wrong types and impossible values are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, protected_namespaces=())
    writes: ClassVar[str] = (
        "rows_file"  # the parameter that names the result, where a notebook has one
    )

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
        """Settings from a notebook's own names: its parameters cell, and what papermill injected after it.

        papermill lets an unknown name pass; its injected cell is read here, so that a typo is found before any
        computing, as is a result that could not be written after it.
        """
        injected = [
            cell for cell in namespace.get("In", []) if cell.lstrip().startswith("# Parameters")
        ][-1:]
        assigned = [
            target.id
            for cell in injected
            for node in ast.walk(ast.parse(cell))
            if isinstance(node, ast.Assign)
            for target in node.targets
        ]
        names = [*cls.model_fields, *assigned]
        settings = cls.check({name: namespace[name] for name in names if name in namespace})
        path = getattr(settings, cls.writes, None)
        if path and (reason := unwritable(path)):
            raise SettingsError(
                f"{cls.writes} must be a path where a file can be written, not {path!r} ({reason})."
            )
        return settings

    @classmethod
    def _sentence(cls, error):
        name = str(error["loc"][0]) if error["loc"] else ""
        if error["type"] == "extra_forbidden":
            return f"unknown parameter {name!r}{_nearest(name, cls.model_fields) or '; known: ' + (', '.join(cls.model_fields) or 'none')}"
        if error["type"] == "missing":
            return f"parameter {name!r} is missing"
        reason = (
            str(error.get("ctx", {}).get("error", "")) if error["type"] == "value_error" else ""
        )
        if not name:
            return reason
        return f"{name} must be {cls.model_fields[name].description or 'of its kind'}, not {error['input']!r}{reason}"


UNLESS_ANNOTATED = {
    bool: Flag,
    int: Count,
    float: NonNegative,
    str: Text,
}  # by the type of a parameter's default


def options_of(function, after):
    """A class that checks the parameters which a function's signature names behind ``after``, by their annotations or else their defaults."""
    parameters = list(inspect.signature(function).parameters.values())
    first = [parameter.name for parameter in parameters].index(after) + 1
    kinds = {
        p.name: UNLESS_ANNOTATED.get(type(p.default), Any)
        if p.annotation is p.empty
        else p.annotation
        for p in parameters[first:]
    }
    return create_model(
        function.__name__,
        __base__=Checked,
        **{p.name: (kinds[p.name], p.default) for p in parameters[first:]},
    )
