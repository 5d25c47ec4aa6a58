import pytest
import torch

from pacd import data


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def digits():
    """The embedded digits, split."""
    return data.load("mnist5k")
