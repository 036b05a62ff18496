"""The comparison page as a file: whole, harmless, the same every time."""

from __future__ import annotations

import json
import re

import pytest
from report_samples import ATTACK, compared, near

from editr1.evaluation.compare import Section
from editr1.reports import comparison as page_of
from editr1.reports import write_comparison


@pytest.fixture
def page(tmp_path):
    return write_comparison(compared(tmp_path), tmp_path / "out" / "page.html").read_text(encoding="utf-8")


def test_it_asks_for_nothing_and_runs_nothing_of_others(page):
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", page)
    assert "default-src 'none'" in page
    assert page.count("<script>") == 1
    assert ATTACK not in page
    assert "onerror=alert(1)" not in re.sub(r"&lt;.*?&gt;", "", page)


def test_the_same_comparison_gives_the_same_bytes(page, tmp_path):
    again = write_comparison(compared(tmp_path), tmp_path / "again.html").read_text(encoding="utf-8")
    assert again == page


def test_warnings_stand_at_the_top_with_field_and_values(page):
    assert "These runs do not fully compare" in page
    assert page.index("seed differs: 0 in A and B, 5 in C") < page.index("en full")


def test_without_warnings_there_is_no_box(tmp_path):
    from dataclasses import replace

    found = replace(compared(tmp_path), warnings=(), items=())
    page = write_comparison(found, tmp_path / "page.html", title="<b>own</b>").read_text(encoding="utf-8")
    assert "do not fully compare" not in page
    assert "There is no item on which two runs that answered it differ." in page
    assert "&lt;b&gt;own&lt;/b&gt;" in page


def test_figures_differences_and_what_is_left_out(page):
    words = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    assert "6.50 6.00 to 7.00" in words
    assert "+1.50 +1.00 to +2.00" in words
    assert "−2.00 −2.50 to −1.50" in words
    assert "B is ahead on 7 of 12 items and behind on 2; exact sign test p = 0.18." in words
    assert "Left out: 1 items that one of them failed on, 3 that only one of them has." in words
    assert "no item that both have and both answered" in words
    assert "FLUX.1-Kontext judged by GPT-4.1 6.27 5.77" in words
    assert "70.0 65.0 to 75.0" in words, "shares are shown in percent"


def test_gaps_are_for_the_filter(page):
    import html

    gaps = [json.loads(html.unescape(g)) for g in re.findall(r'data-gaps="([^"]*)"', page)]
    assert gaps[1] == {"AB": 1.0, "AC": 3.0, "BC": 2.0}
    assert gaps[4] == {"AB": 9.0}


@pytest.mark.parametrize(
    ("percent", "highest", "top"), [(True, 0.4, 1.0), (False, 4.0, 5.0), (False, 5.0, 10.0), (False, 11.0, 11.5)]
)
def test_a_scale_ends_where_the_judges_does(percent, highest, top):
    section = Section("x", percent, {}, {"O": {"a": (near(highest), None)}})
    (chart,) = page_of._charts(section)
    assert chart.top == top
