"""One archive from which a node without a network runs a profile: ``make pack``.

It holds the code, wheels of what the node lacks, data sets in their compressed form, and of the
profile what is there already. On the node, which has PyTorch and the packages of ``THERE``:

    tar -xf pack.tar && bash pack/run.sh PROFILE SECONDS OUT

:mod:`study.node` says what that does, and :mod:`study.unpack` files what it leaves in OUT.
"""

import argparse
import gzip
import io
import os
import subprocess
import sys
import tarfile
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pacd.data import ROOT, TORCHVISION, DataError
from study import grid
from study.parameters import SettingsError
from study.results import commit, replacing
from study.rows import RUNS, table_of

FOLDER = ROOT / "data" / "pack"
MOST = 60 * 2**20  # bytes of a pack
# What the runs of a profile import, and what the node has of it.
NEEDED = (
    *("papermill", "ipykernel", "pydantic", "annotated-types", "snakemake", "pyyaml", "mlxtend"),
    "safetensors",
)
THERE = (
    *("torch", "torchvision", "numpy", "scipy", "pandas", "matplotlib", "seaborn", "tqdm"),
    *("scikit-learn", "scikit-image"),
)
# Carried although torch needs it too: pydantic needs a younger one.
YOUNGER = "typing-extensions"
# Large, and never imported by a run: a solver, a debugger, completion, and what only a pin wants.
UNUSED = {"pulp", "debugpy", "jedi", "aiohttp"}
# In Python alone, and offered without a wheel.
BUILT = {"connection-pool"}
# The files of torchvision's data sets of 28 x 28 pixels.
KINDS = "images-idx3-ubyte", "labels-idx1-ubyte"
IDX = [f"{part}-{kind}" for part in ("train", "t10k") for kind in KINDS]
# What is tracked and no run needs.
LEFT = "book/", "data/"


def environment(python):
    """What markers of requirements ask of a node: Linux on x86-64."""
    return {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "platform_machine": "x86_64",
        "platform_system": "Linux",
        "sys_platform": "linux",
        "os_name": "posix",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "extra": "",
    }


def closure(names, node, without=()):
    """Names of packages with all that they need on a node, by what is installed here."""
    found, left = set(), [canonicalize_name(name) for name in names]
    while left:
        name = left.pop()
        if name in found or name in without:
            continue
        found.add(name)
        try:
            needs = [Requirement(line) for line in requires(name) or []]
        except PackageNotFoundError:  # needed there and not here
            continue
        left += [
            canonicalize_name(n.name) for n in needs if not n.marker or n.marker.evaluate(node)
        ]
    return found


def lacking(python):
    """The packages that the node lacks, as ``NAME==VERSION`` of the lock, sorted."""
    node = environment(python)
    there = closure(THERE, node) - {YOUNGER}
    names = closure(NEEDED, node, there | UNUSED)
    lock = map(Requirement, (ROOT / "requirements.lock").read_text().splitlines())
    pins = {pin.name: pin for pin in lock if not pin.marker or pin.marker.evaluate(node)}
    return [f"{name}{pins[name].specifier}" for name in sorted(names)]


def wheels(python):
    """Paths of the wheels that the node lacks; from the package index, or from the last time."""
    kept = FOLDER / f"wheels-{python}"
    listed, wanted = kept / "wanted", "\n".join(lacking(python))
    if not listed.exists() or listed.read_text() != wanted:
        for wheel in kept.glob("*.whl"):
            wheel.unlink()
        _fetch(wanted.splitlines(), python, kept)
        listed.write_text(wanted)
    return sorted(kept.glob("*.whl"))


def _fetch(pins, python, kept):
    """Download the wheels of the node's platform, and build those that nobody offers."""
    tags = ("1", "2014", *(f"_2_{minor}" for minor in range(5, 29)))
    named = [f"--platform=manylinux{tag}_x86_64" for tag in tags]
    node = ["--only-binary=:all:", f"--python-version={python}", *named]
    pip = [sys.executable, "-m", "pip", "-qq"]
    built = [pin for pin in pins if pin.split("==")[0] in BUILT]
    offered = [pin for pin in pins if pin not in built]
    subprocess.run([*pip, "download", "--no-deps", *node, "-d", kept, *offered], check=True)
    subprocess.run([*pip, "wheel", "--no-deps", "-w", kept, *built], check=True)


def data_files(name):
    """``{place in the pack: path or bytes}`` of a data set.

    Parameters
    ----------
    name : str
        ``mnist`` or ``fashion_mnist``, whose files are in the folder of torchvision's files,
        gzipped or not; or the path of an .npz, which goes to data/downloads under its name.

    Raises
    ------
    DataError
        If the files are not there.
    """
    if name.endswith(".npz") and Path(name).exists():
        return {f"data/downloads/{Path(name).name}": Path(name)}
    if name not in ("mnist", "fashion_mnist"):
        known = "mnist, fashion_mnist or the path of an .npz that is there"
        raise DataError(f"DATA must hold {known}, not {name!r}.")
    raw = Path(TORCHVISION[name]) / "raw"
    here = Path(os.environ.get("PACD_DATA") or ROOT / "data" / "downloads") / raw
    return {f"data/downloads/{raw}/{file}.gz": _gzipped(here, file) for file in IDX}


def _gzipped(place, file):
    packed = place / f"{file}.gz"
    if packed.exists():
        return packed
    if not (place / file).exists():
        where = "or name the folder of torchvision's files with $PACD_DATA"
        raise DataError(f"there is no {place / file}, gzipped or not; download it, {where}.")
    return gzip.compress((place / file).read_bytes(), mtime=0)


def code_files():
    """``{place in the pack: path}`` of what git tracks, but for the book and its data."""
    command = ["git", "ls-files", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    names = [name for name in listed.split("\0") if name and not name.startswith(LEFT)]
    return {name: ROOT / name for name in names}


def made_files(profile):
    """``{place in the pack: path}`` of a kept profile's results, and of poison still to be read."""
    plan = grid.load(profile)
    missing = plan.missing()
    if not plan.kept:
        return {}
    read = {plan.runs[run].get("poison_file") for run in missing} - {None}
    runs = [run for run in plan.runs if run not in missing]
    runs += [run for run in plan.poisons if plan.poisons[run]["poison_file"] in read]
    paths = [ROOT / path for run in runs for path in plan.files(run)]
    tables = (ROOT / "data" / "results" / profile).glob(f"*{RUNS}")
    paths += [path for runs_there in tables for path in (runs_there, table_of(runs_there))]
    return {str(path.relative_to(ROOT)): path for path in paths if path.exists()}


def pack(profile, data, python, path):
    """Write the archive of a profile with the data sets of ``data``; its size in bytes.

    Raises
    ------
    SettingsError
        If it would be larger than ``MOST``.
    """
    content = {**made_files(profile), **code_files()}
    for name in data:
        content |= data_files(name)
    content |= {f"wheels/{wheel.name}": wheel for wheel in wheels(python)}
    content |= {"run.sh": ROOT / "study" / "run.sh", "COMMIT": commit().encode()}
    with replacing(path) as temporary:
        write(temporary, {f"pack/{place}": one for place, one in content.items()})
        size = temporary.stat().st_size
        if size > MOST:
            told = f"{size / 2**20:.0f} MiB; name fewer data sets with DATA"
            raise SettingsError(f"the pack may be {MOST >> 20} MiB large and would be {told}.")
    return size


def write(path, content):
    """A gzipped archive of ``{place: path or bytes}``."""
    with tarfile.open(path, "w:gz") as archive:
        for place, one in content.items():
            content = one if isinstance(one, bytes) else one.read_bytes()
            entry = tarfile.TarInfo(place)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("profile")
    parser.add_argument("data", nargs="*", help="mnist, fashion_mnist, or the path of an .npz")
    parser.add_argument("--python", default="3.12", help="the node's version")
    options = parser.parse_args()
    path = FOLDER / f"{options.profile}.tar.gz"
    try:
        size = pack(options.profile, options.data, options.python, path)
    except (SettingsError, DataError) as error:
        sys.exit(str(error))
    print(f"{size / 2**20:.1f} MiB: {path}")


if __name__ == "__main__":
    main()
