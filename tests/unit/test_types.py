"""What users make by hand."""

import pytest

from editr1 import Category, Principle, Verifier
from editr1.devices import find_device
from editr1.errors import ConfigError


def test_a_category_may_be_given_by_name():
    assert Principle("Is it red?", "follow") == Principle("Is it red?", Category.FOLLOW)
    with pytest.raises(ValueError, match="unknown principle category 'colour': use one of Follow, Keep, Quality"):
        Principle("Is it red?", "colour")


def test_a_verifier_is_not_made_of_a_name():
    with pytest.raises(ConfigError, match=r"write Verifier.from_pretrained\('embedded'\)"):
        Verifier("embedded")


def test_a_gpu_that_is_not_there(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(ConfigError, match="'cuda' is not there: PyTorch sees no GPU"):
        find_device("cuda")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert find_device("cuda:1").index == 1
    with pytest.raises(ConfigError, match="'cuda:2' is not there: PyTorch sees 2 GPUs, cuda:0 to cuda:1"):
        find_device("cuda:2")
