from functools import cache

import pytest
import torch

from pacd import data


def pytest_addoption(parser):
    parser.addoption("--kills", type=int, default=3, help="how often test_kills.py kills its study")


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def quick_digits():
    """Reads the file of the embedded digits, which takes seconds, once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "_mnist5k", cache(data._mnist5k))
        yield


@pytest.fixture(scope="session")
def digits():
    """The embedded digits, split."""
    return data.load("mnist5k")
