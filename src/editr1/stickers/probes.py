"""Probes: principles whose truth is known, and the words for what is seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from editr1.stickers.scene import Scene, Sticker
from editr1.types import Category, Principle


@dataclass(frozen=True, slots=True)
class Probe:
    """A principle whose truth the oracle knows.

    Attributes:
        asked: what the answer turns on, in a word or two, e.g. "top" for "Is the star at the top?".
        test: takes the scene that is seen; gives whether the principle is met, and what is seen, in a few words.
    """

    principle: Principle
    asked: str
    test: Callable[[Scene], tuple[bool, str]]


def follow(question: str, asked: str, test: Callable[[Scene], tuple[bool, str]]) -> Probe:
    """A probe of instruction following."""
    return Probe(Principle(question, Category.FOLLOW), asked, test)


def keep(question: str, asked: str, test: Callable[[Scene], tuple[bool, str]]) -> Probe:
    """A probe of feature preservation."""
    return Probe(Principle(question, Category.KEEP), asked, test)


def quality(question: str, asked: str, test: Callable[[Scene], tuple[bool, str]]) -> Probe:
    """A probe of image quality."""
    return Probe(Principle(question, Category.QUALITY), asked, test)


def look(scene: Scene, kind: str) -> str:
    """What is seen of a kind: "red apple top left", or "no apple"."""
    sticker = scene.find(kind)
    return f"no {kind}" if sticker is None else f"{sticker.phrase(scene.colors_show)} {sticker.cell}"


def sticker_probe(question: str, asked: str, kind: str, test: Callable[[Sticker], bool]) -> Probe:
    """A follow probe on the sticker of one kind; unmet if there is none."""

    def run(seen: Scene) -> tuple[bool, str]:
        sticker = seen.find(kind)
        return sticker is not None and test(sticker), look(seen, kind)

    return follow(question, asked, run)
