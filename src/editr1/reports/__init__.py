"""Reports: verdicts in, one static, self-contained HTML file out.

`write_report` takes items from memory; `load_items` reads what `editr1 score --out` wrote; `write_comparison` shows
evaluations side by side; `write_reproduction` shows the paper in miniature,
`write_reproduction_markdown` its tables alone. None of them loads torch.
"""

from __future__ import annotations

from editr1.reports.comparison import write_comparison
from editr1.reports.html import write_report
from editr1.reports.load import load_items
from editr1.reports.reproduction import write_reproduction
from editr1.reports.reproduction_markdown import write_reproduction_markdown

__all__ = ["load_items", "write_comparison", "write_report", "write_reproduction", "write_reproduction_markdown"]
