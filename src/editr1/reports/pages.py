"""What all pages have in common: escaping, filters, and that a page asks for nothing else."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


def render_page(template: str, *, styles: Sequence[str], scripts: Sequence[str], **values: Any) -> str:
    """A self-contained page: styles and scripts are inside, and its policy lets no other script run.

    Args:
        template: its file in `templates/`, which fills in `page.html.j2`.
        styles: files there that follow `page.css`, in order.
        scripts: files there that follow `page.js`, in order; all are one script.
        **values: for the template; everything in them is escaped.
    """
    code = _joined("page.js", *scripts)
    return (
        _environment()
        .get_template(template)
        .render(
            values,
            style=Markup(_joined("page.css", *styles)),
            script=Markup(code),
            script_hash=base64.b64encode(hashlib.sha256(code.encode()).digest()).decode(),
        )
    )


def _joined(*names: str) -> str:
    folder = files("editr1.reports").joinpath("templates")
    return "\n".join(folder.joinpath(name).read_text(encoding="utf-8") for name in names)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("editr1.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        decimal=_decimal, signed=_signed, count=_count, percent=_percent, duration=_duration, band=_band, spaced=_spaced
    )
    return environment


def _printable(value: Any) -> Any:
    """Put the replacement character for what no HTML file may hold: control characters and lone surrogates."""
    return _UNPRINTABLE.sub("\ufffd", value) if type(value) is str else value


def _decimal(value: float, digits: int = 1) -> str:
    return f"{value:.{digits}f}"


def _signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "\N{MINUS SIGN}")


def _count(value: int) -> str:
    return f"{value:,}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f}\N{THIN SPACE}%"


def _spaced(name: str) -> str:
    return re.sub(r"[_-]+", " ", name)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 1 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _band(score: float) -> int:
    """Which of four colours a score has; the steps follow the rubric's anchors (5 partly, 8 nearly usable)."""
    return sum(score >= step for step in (2.5, 5.0, 8.0))
