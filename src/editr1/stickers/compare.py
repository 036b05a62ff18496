"""A simulated judge's reasoning: what is where before and after, thing by thing.

Each line sets what was beside what is now, and says how they relate. A small model learns to compare two phrases
that stand next to each other; holding two whole descriptions against one another it does not (docs/decisions/0005).
"""

from __future__ import annotations

from editr1.stickers.scene import Backdrop, Scene, Sticker, flaws


def reasoning(before: Scene, seen: Scene, known: frozenset[str] | None = None) -> str:
    """The comparison of a scene with an edit of it, a line for each thing.

    Args:
        before: the scene before.
        seen: what is believed to be seen after.
        known: kinds of sticker that were there or were asked for; new things are said to be asked for or not.
            None leaves that out.
    """
    lines = [f"on {before.backdrop.kind} > on {seen.backdrop.kind}: {backdrop_change(before.backdrop, seen.backdrop)}"]
    for old in before.stickers:
        now = seen.find(old.kind)
        after = f"{_named(now, seen)}: {sticker_change(old, now, seen.colors_show)}" if now else "gone"
        lines.append(f"{_named(old, before)} > {after}")
    for new in (s for s in seen.stickers if before.find(s.kind) is None):
        asked = "" if known is None else ": asked" if new.kind in known else ": not asked"
        lines.append(f"new {_named(new, seen)}{asked}")
    lines.append(f"{text(before)} > {text(seen)}: {'same' if before.caption == seen.caption else 'changed'}")
    lines.append(f"look > {look(seen)}")
    lines.append(f"flaws > {', '.join(flaws(seen)) or 'none'}")
    return "\n".join(lines)


def backdrop_change(old: Backdrop, now: Backdrop) -> str:
    """What happened to the backdrop: "same", "shifted" (another part or pattern of its kind), or "changed"."""
    return "same" if now == old else "shifted" if now.kind == old.kind else "changed"


def sticker_change(old: Sticker, now: Sticker, colors_show: bool = True) -> str:
    """What happened to a sticker: "same", or "moved" to another cell, "nudged" within it, "changed" in its looks.

    Looks are not compared where the style hides colours.
    """
    place = "moved" if now.cell != old.cell else "nudged" if now.center != old.center else ""
    looks = "changed" if colors_show and not now.looks_like(old) else ""
    return ", ".join(word for word in (place, looks) if word) or "same"


def text(scene: Scene) -> str:
    """The caption in words."""
    return f"text {scene.caption.word} {scene.caption.row}" if scene.caption else "no text"


def look(scene: Scene) -> str:
    """Style and tone in words, "same" without any: no scene before an edit has them."""
    return ", ".join(word for word in (scene.style, scene.tone) if word) or "same"


def _named(sticker: Sticker, scene: Scene) -> str:
    return f"{sticker.phrase(scene.colors_show)} {sticker.cell}"
