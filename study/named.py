"""What a parameter names: a function that is built in, or other people's ``MODULE:FUNCTION``.

MODULE is a file ``MODULE.py`` in the current folder or beside the notebooks, else what Python
imports under that name. A function begins with the parameters of one of the forms below; those
behind them are its options, each with a default. A file that was edited counts as it now is.
"""

import difflib
import hashlib
import importlib
import inspect
import sys
import time
from functools import cache, lru_cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from pacd.data import ROOT

LOSS = "model, x, y, sigma, generator, epoch=None"  # a scalar; see pacd.losses
NETWORK = "shape, classes"  # a torch.nn.Module; see pacd.models
ATTACK = "problem, steps, seed, checkpoint"  # index, images, trace; see pacd.attack.poison
PATTERN = "splits, index, eps, generator"  # the change of the images; see pacd.controls
CURATION = "x, y"  # cleaned x (m, C, H, W) in [0, 1] and y (m,); see pacd.curation
FIRST = "shape"  # a torch.nn.Module, the network's first layer; see pacd.models.NORMALISATIONS
# The parameters that may name such a function.
PLACES = "trainer", "architecture", "normalisation", "attack", "curation"
_HASHES = {}  # of files as they were when their functions were looked up, not edited since
_TEXTS = {}  # of the files of modules that Python imported, as they were last executed
_BEGAN = time.time()


def is_path(name):
    """Whether a name is one of other people's."""
    return isinstance(name, str) and ":" in name


def function(name, table, *forms):
    """What a name stands for.

    Parameters
    ----------
    name : str
        A key of the table, or MODULE:FUNCTION.
    table : dict
        The built-in ones.
    forms : str
        The parameters with which a brought function may begin.

    Returns
    -------
    callable

    Raises
    ------
    ValueError
        If there is no such function, it has none of the forms, or it is of a file that was edited
        behind its module's back; the end of a sentence.
    """
    if not is_path(name):
        return table[name]
    found = _found(name)
    if not any(fits(found, form) for form in forms):
        raise ValueError(f": it is {name.split(':')[1]}{inspect.signature(found)}")
    _HASHES[name] = _hash_of(name, found)
    return found


def fits(function, form):
    """Whether a function begins with the parameters of a form, and has defaults for its options."""
    wanted = [part.split("=") for part in form.split(", ")]
    parameters = list(inspect.signature(function).parameters.values())
    optional = [part for part, name in zip(parameters, wanted) if name[1:]]
    optional += parameters[len(wanted) :]
    by_name = all(
        part.kind in (part.POSITIONAL_OR_KEYWORD, part.KEYWORD_ONLY) for part in parameters
    )
    same = [part.name for part in parameters[: len(wanted)]] == [name[0] for name in wanted]
    return same and by_name and all(part.default is not part.empty for part in optional)


def sources(parameters):
    """The files of the brought functions that parameters (dict) name: ``{name: Path}``."""
    names = [parameters.get(place) for place in PLACES]
    return {name: _source(name, _found(name)) for name in names if is_path(name)}


def hashes(parameters):
    """SHA-256 of each of these files as it was when :func:`function` last read it."""
    names = [parameters.get(place) for place in PLACES]
    return {name: _HASHES[name] for name in names if is_path(name)}


def _found(name):
    module, _, attribute = name.partition(":")
    code = _module(module)
    found = getattr(code, attribute, None)
    if not callable(found):
        near = difflib.get_close_matches(attribute, vars(code), n=1)
        meant = f"; did you mean '{module}:{near[0]}'?" if near else ""
        raise ValueError(f": {module} holds no function {attribute!r}{meant}")
    return found


def _module(name):
    folders = (Path.cwd(), ROOT / "notebooks")
    files = [folder / f"{name}.py" for folder in folders if name.isidentifier()]
    file = next((file for file in files if file.is_file()), None)
    try:
        return _executed(name, file, file.read_bytes()) if file else _imported(name)
    except ModuleNotFoundError as error:
        if name.endswith(".py"):
            short = name.removesuffix(".py")
            raise ValueError(f": {short}, without .py, is the name of that module") from error
        if error.name != name.split(".")[0]:
            raise ValueError(f": {name} needs {error.name!r}, which is not installed") from error
        there = f"there is no {name}.py in {folders[0]} or beside the notebooks"
        raise ValueError(f": {there}, and Python finds no module {name!r}") from error
    except Exception as error:  # whatever other people's code raises
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ValueError(f": {name} cannot be imported ({reason})") from error


@lru_cache
def _executed(name, file, text):
    """A module from its file; anew where the file has changed, as a kernel outlives an edit."""
    module = module_from_spec(spec_from_file_location(name, file))
    sys.modules.setdefault(name, module)  # where dataclasses look for their module
    _execute(module, text)
    return module


def _imported(name):
    """A module that Python finds; executed anew where its file has changed since it was."""
    there = name in sys.modules
    module = importlib.import_module(name)
    file = Path(getattr(module, "__file__", None) or name)
    if file.suffix != ".py":
        return module
    text = file.read_bytes()
    current = not there or file.stat().st_mtime < _BEGAN
    if _TEXTS.setdefault(file, text if current else None) != text:
        _execute(module, text)
        _TEXTS[file] = text
    return module


def _execute(module, text):
    """From the text, as bytecode beside it may be older: it knows an edit by seconds and size."""
    exec(compile(text, module.__file__, "exec"), vars(module))


def _hash_of(name, found):
    """Hash of the file that defines a function, if that is what the function was made from."""
    file, function = _source(name, found), inspect.unwrap(found)
    now = _hash(file)
    if hasattr(function, "__code__") and _first_hash(function, file) != now:
        raise ValueError(f": {file.name} was edited after it was imported; begin a new process")
    return now


@cache
def _first_hash(function, file):
    """Hash of a function's file when the function was first looked up."""
    return _hash(file)


def _source(name, found):
    """The file that defines a brought function; that of its module where it is no plain one."""
    code = getattr(inspect.unwrap(found), "__code__", None)
    return Path(code.co_filename if code else _module(name.split(":")[0]).__file__)


def _hash(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()
