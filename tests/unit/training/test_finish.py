"""What happens after a training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from editr1.training import finish


@pytest.mark.parametrize("dtype", [None, "bfloat16"])
def test_a_shipped_model_takes_the_place_of_the_one_there(
    dtype: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1 + 2^-8 is exact in float32; of bfloat16's 8 bits of precision the last is 2^-7 there, and the tie goes to 1."""
    monkeypatch.setattr(finish, "MODELS_FOLDER", tmp_path / "models")
    old = tmp_path / "models" / "mine"
    old.mkdir(parents=True)
    (old / "left_over.txt").touch()
    made = tmp_path / "lora"
    made.mkdir()
    (made / "README.md").write_text("a card")
    save_file({"a.weight": torch.tensor([1 + 2**-8])}, made / "w.safetensors", metadata={"rank": "16"})

    assert finish.ship_model(made, "mine", dtype) == old

    assert sorted(path.name for path in old.iterdir()) == ["README.md", "w.safetensors"]
    weight = load_file(old / "w.safetensors")["a.weight"]
    assert weight.dtype == (torch.bfloat16 if dtype else torch.float32)
    assert weight.item() == (1 + 2**-8 if dtype is None else 1)
    with safe_open(old / "w.safetensors", "pt") as file:
        assert file.metadata() == {"rank": "16"}
    assert load_file(made / "w.safetensors")["a.weight"].dtype == torch.float32
