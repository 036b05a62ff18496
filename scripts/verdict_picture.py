r"""Draw docs/images/verdict.png again: one verdict of the demo's report, its reasoning open. Needs Chromium.

editr1 demo --seed 7 --steps 0 --out runs/verdict-picture
python scripts/verdict_picture.py runs/verdict-picture/report.html demo-7/1/eager
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

PICTURE = Path(__file__).parents[1] / "docs/images/verdict.png"
ALONE = """
<script>
const card = [...document.querySelectorAll("article")].find((found) => found.dataset.id === %s);
card.querySelectorAll("details").forEach((part) => { part.open = true; });
document.body.replaceChildren(card);
document.body.style.cssText = "margin: 0; padding: 12px; max-width: none; display: block";
</script>
"""


def main() -> None:
    """Open the report in a browser with one card left, and keep what is seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path)
    parser.add_argument("id", help="of the verdict, as the report shows it")
    parser.add_argument("--height", type=int, default=962)
    args = parser.parse_args()
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        raise SystemExit("needs Chromium: apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        text = re.sub("<meta http-equiv=[^>]*>", "", args.report.read_text(encoding="utf-8"))  # it forbids our script
        page.write_text(text + ALONE % json.dumps(args.id), encoding="utf-8")
        size = f"--window-size=1096,{args.height}"
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=3000"]
        subprocess.run([browser, *flags, size, f"--screenshot={PICTURE}", page.as_uri()], check=True)


if __name__ == "__main__":
    main()
