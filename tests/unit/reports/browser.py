"""A real browser for pages: headless Chromium opens one in a frame of a page that acts as a reader would."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
    "--virtual-time-budget=5000",
    "--dump-dom",
]

READER = """
const frame = document.getElementById("frame");
frame.onload = () => {
  const view = frame.contentWindow, page = frame.contentDocument;
  const find = (id) => page.getElementById(id);
  const shown = () => [...page.querySelectorAll("article:not([hidden])")].map((card) => card.dataset.id).join(" ");
  const set = (id, value) => {
    const field = find(id);
    if (field.type === "checkbox") field.checked = value; else field.value = value;
    field.dispatchEvent(new view.Event("input", { bubbles: true }));
    return shown();
  };
  const press = (key) => (page.activeElement ?? page.body)
    .dispatchEvent(new view.KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
  const reset = () => {
    find("filters").reset();
    return new Promise((done) => view.setTimeout(() => done(shown()), 50));
  };
  const box = (part) => part.getBoundingClientRect();
  const openAll = () => {
    for (const part of page.querySelectorAll("details")) part.open = true;
    for (const card of page.querySelectorAll(".card")) card.style.contentVisibility = "visible";
    for (const image of page.querySelectorAll("img")) image.loading = "eager";
    return new Promise((done) => view.setTimeout(done, 1000));
  };
  const layout = () => {
    const cut = [...page.querySelectorAll("body *")].filter((part) =>
      box(part).right > view.innerWidth + 1 && !part.closest(".hidden, .skip, .scroll > *"));
    const texts = [...page.querySelectorAll("svg text")];
    const scale = (text) => box(text.ownerSVGElement).width / text.ownerSVGElement.viewBox.baseVal.width;
    return {
      width: page.documentElement.scrollWidth,
      cut: [...new Set(cut.map((part) => part.getAttribute("class") || part.tagName))],
      smallest: Math.min(...texts.map((text) => parseFloat(view.getComputedStyle(text).fontSize) * scale(text))),
      outside: texts.filter((text) => box(text).right > box(text.ownerSVGElement).right + 1).map((t) => t.textContent),
    };
  };
  (async () => JSON.stringify(await (async () => { ACTIONS })()))()
    .catch((error) => JSON.stringify({ error: String(error) }))
    .then((result) => { document.getElementById("result").textContent = result; });
};
"""


def visit(report: Path, actions: str, *, width: int = 1440, height: int = 1000) -> tuple[dict[str, Any], str]:
    """Open a page in a frame of that size, run actions there; returns what they return and the console's log."""
    page = report.with_name("reader.html")
    page.write_text(
        f'<!doctype html><meta charset="utf-8"><body><pre id="result"></pre>'
        f'<iframe id="frame" style="border:0;width:{width}px;height:{height}px" '
        f'srcdoc="{html.escape(report.read_text(encoding="utf-8"))}"></iframe>'
        f"<script>{READER.replace('ACTIONS', actions)}</script>",
        encoding="utf-8",
    )
    profile = f"--user-data-dir={report.parent / 'profile'}"
    command = [str(CHROMIUM), *FLAGS, profile, page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    result = re.search(r'<pre id="result">(.*?)</pre>', done.stdout, flags=re.S)
    assert result, done.stderr
    answers = json.loads(html.unescape(result[1]))
    assert "error" not in answers, answers
    return answers, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


def read_at(report: Path, width: int, actions: str = "return {};") -> dict[str, Any]:
    """Open a page at a width with all of it unfolded; returns what actions return.

    Raises:
        AssertionError: if anything sticks out sideways but what can be scrolled, a chart's text is smaller than 9 px or
            leaves the chart, or the console has something to say.
    """
    both = "await openAll(); const looks = layout(); return { looks, found: await (async () => { ACTIONS })() };"
    answers, console = visit(report, both.replace("ACTIONS", actions), width=width, height=844)
    smallest = answers["looks"].pop("smallest")
    assert console == ""
    assert answers["looks"] == {"width": width, "cut": [], "outside": []}
    assert smallest >= 9
    found: dict[str, Any] = answers["found"]
    return found
