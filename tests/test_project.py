"""What must agree across files."""

import json
import subprocess
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pacd.data import ROOT

LOCK = [Requirement(line) for line in (ROOT / "requirements.lock").read_text().splitlines()]


def test_one_list_of_dependencies():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert all(str(pin.specifier).startswith("==") for pin in LOCK), (
        "the lock holds exact versions only"
    )
    missing = {canonicalize_name(Requirement(d).name) for d in declared} - {
        canonicalize_name(pin.name) for pin in LOCK
    }
    assert not missing, f"run `make lock`: {missing}"
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["dependencies"][-1] == {"pip": ["-r requirements.lock", "-e ."]}


def test_lab_has_the_versions_of_the_study():
    lines = (ROOT / "requirements-lab.lock").read_text().splitlines()
    lab = {pin.name: pin for pin in map(Requirement, lines)}
    assert {pin.name: pin.specifier for pin in LOCK}.items() <= {
        name: pin.specifier for name, pin in lab.items()
    }.items(), "run `make lock`"
    assert str(lab["jupyterlab"].specifier).startswith("==")


def test_the_lock_is_what_is_installed():
    from importlib.metadata import version

    wanted = {
        "jupyter-book",
        "numpy",
        "papermill",
        "pydantic",
        "scipy",
        "snakemake",
        "torch",
        "torchvision",
    }
    pins = [
        pin for pin in LOCK if pin.name in wanted and (pin.marker is None or pin.marker.evaluate())
    ]
    assert {pin.name for pin in pins} == wanted
    assert all(version(pin.name).split("+")[0] in pin.specifier for pin in pins)


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
def test_notebooks_are_committed_without_outputs(path):
    for cell in json.loads(path.read_text())["cells"]:
        assert not cell.get("outputs") and not cell.get("execution_count")


@pytest.mark.parametrize(
    "wrong, sentence",
    [
        ("PROFILE=smkoe", "PROFILE must be one of "),
        ("EXPERIMENT=haedline", "EXPERIMENT must be one of headline, "),
    ],
)
def test_make_passes_on_what_is_wrong(wrong, sentence):
    done = subprocess.run(
        ["make", "--old-file=.venv/installed", "study", wrong],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode and sentence in done.stderr and "not '" in done.stderr
