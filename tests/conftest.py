import pytest
import torch

from pacd import data


def pytest_addoption(parser):
    parser.addoption("--kills", type=int, default=3, help="how often test_kills.py kills its study")


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def digits():
    """The embedded digits, split."""
    return data.load("mnist5k")
