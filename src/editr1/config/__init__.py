"""Configuration: pydantic models, TOML recipes, single values from the command line, no unknown keys."""

from editr1.config.load import dump, load
from editr1.config.models import JudgeConfig, Recipe, SamplingConfig, ScoreConfig

__all__ = ["JudgeConfig", "Recipe", "SamplingConfig", "ScoreConfig", "dump", "load"]
