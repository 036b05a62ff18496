"""The model that all tests of the engine compare with."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

# Test modules are imported by path, so the helpers beside them have to be found by name.
sys.path.append(str(Path(__file__).parent))

from fast_helpers import Tiny

from editr1.judges.testing import tiny_qwen


@pytest.fixture(scope="session")
def tiny() -> Tiny:
    """Three blocks in each tower, the vision tower's last with full attention."""
    return Tiny(*tiny_qwen(layers=3, vision_depth=3))
