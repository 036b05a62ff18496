"""Write docs/results/embedded-verifier.md from the JSON of `editr1 stickers evaluate --out`, one column per file.

python scripts/embedded_verifier_page.py docs/results/embedded-verifier.json [MORE.json ...]
"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

from editr1.judges.names import SHIPPED

PAGE = Path(__file__).parents[1] / "docs/results/embedded-verifier.md"

HEAD = """# The embedded verifier against the oracle

```bash
{commands}
```

{edits:,} edits, {pairs:,} pairs and {probes:,} contexts of splits that no training saw, greedy, one pass. `embedded`
is `{embedded}`. Brackets: 95 % bootstrap intervals over edits, pairs, contexts. Everything here is
simulated; the figures say nothing about photographs. In full: {links}.

"""

ROWS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("edits with a verdict", ("edits", "parsed"), "99 %"),
    ("principle accuracy", ("edits", "accuracy"), "88 %"),
    ("balanced accuracy, Follow", ("edits", "balanced", "Follow"), "80 %"),
    ("balanced accuracy, Keep", ("edits", "balanced", "Keep"), "80 %"),
    ("balanced accuracy, Quality", ("edits", "balanced", "Quality"), "80 %"),
    ("balanced accuracy, all principles", ("edits", "balanced", "All"), ""),
    ("better of two edits of one context scored higher (a tie is wrong)", ("pairs", "strict"), "75 %"),
    ("the same, a tie counts half", ("pairs", "half_credit"), ""),
    ("ties", ("pairs", "ties"), ""),
    ("right edit above the unchanged picture and above a wrong one", ("probes", "ordered"), "95 %"),
    ("right edit above the unchanged picture", ("probes", "above_unchanged"), ""),
    ("right edit above a wrong picture", ("probes", "above_wrong"), ""),
)


def interval(estimate: dict[str, float]) -> str:
    """E.g. "93.4 % [92.8, 94.1]"."""
    return f"{100 * estimate['value']:.1f} % [{100 * estimate['low']:.1f}, {100 * estimate['high']:.1f}]"


def line(*cells: str) -> str:
    """A row of a table."""
    return f"| {' | '.join(cells)} |\n"


def page(files: list[Path]) -> str:
    """The whole page."""
    results: list[dict[str, Any]] = [json.loads(f.read_text(encoding="utf-8")) for f in files]
    first = results[0]
    text = HEAD.format(
        commands="\n".join(shlex.join(["editr1", *r["environment"]["command"][1:]]) for r in results),
        edits=first["edits"]["parsed"]["items"],
        pairs=first["pairs"]["strict"]["items"],
        probes=first["probes"]["ordered"]["items"],
        embedded=SHIPPED["embedded"],
        links=", ".join(f"[{f.name}]({f.name})" for f in files),
    )
    names = [r["judge"] for r in results]
    text += line("", *names, "asked for") + line(*["---"] * (len(names) + 2))
    for title, path, asked in ROWS:
        cells = []
        for result in results:
            value: Any = result
            for key in path:
                value = value[key]
            cells.append(interval(value))
        text += line(title, *cells, asked)
    text += line(
        "rank correlation of score and utility", *(f"{r['edits']['rank_correlation']:.3f}" for r in results), ""
    )
    for name, title in (("right", "right edit"), ("unchanged", "unchanged picture"), ("wrong", "wrong picture")):
        text += line(f"mean score, {title}", *(f"{r['probes']['mean_scores'][name]:.2f}" for r in results), "")
    text += "\nAccuracy by kind of edit:\n\n" + line("kind", *names) + line(*["---"] * (len(names) + 1))
    for kind in first["edits"]["by_kind"]:
        text += line(kind, *(interval(r["edits"]["by_kind"][kind]) for r in results))
    return text


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    PAGE.write_text(page([Path(name) for name in sys.argv[1:]]), encoding="utf-8")
