"""The notebook on the first layer as a user runs it, and its parameters."""

import ast
import json

import numpy as np
import pandas as pd
import pytest
from test_notebooks import papermill

from pacd.data import ROOT
from study.parameters import SettingsError
from study.settings import FirstLayerSettings

TINY = {"train_size": 600, "epochs": 2, "points": 12, "n": 50, "seeds": [0, 1], "steps": [10]}


def defaults():
    """The names and values of the parameters cell."""
    cells = json.loads((ROOT / "notebooks" / "first_layer_theory.ipynb").read_text())["cells"]
    (cell,) = (c for c in cells if "parameters" in c["metadata"].get("tags", []))
    nodes = ast.parse("".join(cell["source"])).body
    return {node.target.id: ast.literal_eval(node.value) for node in nodes}


def test_the_parameters_are_those_that_are_checked():
    assert list(defaults()) and set(defaults()) == set(FirstLayerSettings.model_fields)
    FirstLayerSettings.check(defaults())


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"others": [3, 5]}, "others must be one other class, such as"),
        ({"subtract": [0.5, 0.5]}, "subtract must be one or more distinct numbers"),
        ({"model": "mlp"}, "model must be one of linear, lenet, not 'mlp'"),
        ({"substract": [0.5]}, "unknown parameter 'substract'; did you mean 'subtract'"),
    ],
)
def test_a_wrong_parameter_is_one_sentence(change, sentence):
    with pytest.raises(SettingsError, match=sentence) as caught:
        FirstLayerSettings.check({**defaults(), **change})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("model, others", [("linear", [3]), ("lenet", [])])
def test_rows_of_a_tiny_run(tmp_path, model, others):
    chosen = {"model": model, "others": others, "subtract": [0.0, 1.0]}
    path = tmp_path / "rows.csv"
    done = papermill("first_layer_theory", tmp_path, **TINY, **chosen, rows_file=str(path))
    assert done.returncode == 0, done.stderr[-2000:]
    rows = pd.read_csv(path)
    shape = rows.groupby(["subtract", "attack", "seed"]).size()
    assert len(shape) == 8 and set(shape) == {12}
    indices = rows.groupby(["subtract", "attack", "seed"])["index"].apply(tuple)
    assert indices.nunique() == 1
    if model == "linear":
        assert np.allclose(rows["radius"], rows["distance"].clip(lower=0))
        prediction = pd.read_csv(tmp_path / "rows_prediction.csv")
        assert set(prediction["learner"]) == {"ridge", "descent"} and len(prediction) == 12
    else:
        assert {"count_0", "count_9", "prediction"} <= set(rows)
        assert (rows["radius"] >= 0).all() and (rows["label"] == 8).all()
