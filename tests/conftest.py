"""What all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Two torch programs that each take every core slow one another down tenfold.
os.environ.setdefault("OMP_NUM_THREADS", str(min(2, os.cpu_count() or 1)))
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"

REPOSITORY = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test may pass or fail by what the person who runs it has set."""
    for name in ("EDITR1_DEBUG", "OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY
