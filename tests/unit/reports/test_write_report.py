import base64
import io
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from report_samples import failure, item, picture, varied, verdict

from editr1.reports import write_report
from editr1.types import Category, Check, Principle, VerdictStatus

VOID = {"meta", "input", "img", "br", "link", "hr"}


class Page(HTMLParser):
    """Reads a report as a browser would, as far as tests need; insists that every element is closed in order."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.elements, self.scripts, self.pieces = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        assert len(attrs) == len(dict(attrs)), f"doubled attribute in <{tag}>"
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "script" in self.open:
            self.scripts.append(data)
        elif "style" not in self.open:
            self.pieces.append(data)

    @property
    def text(self):
        return "".join(self.pieces)

    @property
    def words(self):
        """The text with single spaces, also between elements."""
        return " ".join(" ".join(self.pieces).split())

    def all(self, tag, **wanted):
        return [a for t, a in self.elements if t == tag and all(a.get(k) == v for k, v in wanted.items())]


@pytest.fixture
def report(tmp_path):
    def write(items, **options):
        return write_report(items, tmp_path / "report.html", **options).read_text(encoding="utf-8")

    return write


def cards(text):
    return re.findall(r"<article.*?</article>", text, flags=re.S)


def test_is_balanced_with_unique_ids_and_resolved_references(report):
    page = Page(report(varied(), subtitle="below", notes=["one", "two"]))
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    assert {a["aria-labelledby"] for _, a in page.elements if "aria-labelledby" in a} <= set(ids)
    assert {a["href"].removeprefix("#") for a in page.all("a")} <= set(ids)
    assert len(page.all("article")) == 7
    assert len(page.all("h1")) == 1


def test_asks_for_nothing_from_elsewhere(report):
    hostile = verdict(reasoning="see http://example.org/a.png and url(http://example.org/b.png)")
    text = report([*varied(), item("x", hostile, instruction="<img src=http://example.org/c.png>")])
    page = Page(text)
    for tag, attributes in page.elements:
        assert tag not in {"link", "iframe", "object", "embed", "base"}
        for name in ("src", "href", "srcset", "action", "poster", "data"):
            assert re.match(r"(#|data:image/(png|webp);base64,|$)", attributes.get(name) or ""), (tag, name)
        assert not any(name.startswith("on") for name in attributes)
        assert "url(" not in (attributes.get("style") or "")
    styles = re.search(r"<style>(.*?)</style>", text, flags=re.S)[1]
    assert "url(" not in styles
    assert "@import" not in styles


def test_scripts_of_users_and_models_are_text(report):
    attack = "</script></style></title>\"'><script>alert(1)</script><img src=x onerror=alert(1)> & {{ 7 * 7 }}"
    check = Check(Principle(attack, Category.FOLLOW), True, attack)
    bad = verdict(checks=(check,), average_score=1.0, reasoning=attack, judge=attack, prompt_hash=attack)
    bad_items = [
        item(attack, bad, instruction=attack, kind=attack, editor=attack, truth={"utility": 1, "faults": [attack]}),
        item("f", failure(error=attack), editor="other", source=attack),
    ]
    page = Page(report(bad_items, title=attack, subtitle=attack, notes=attack))
    assert len(page.scripts) == 1
    assert "alert(" not in page.scripts[0]
    assert not [a for a in page.all("img") if "onerror" in a]
    assert page.text.count(attack) >= 12
    assert page.all("article")[0]["data-id"] == attack
    assert "49" not in page.text.replace("{{ 7 * 7 }}", "")


def test_policy_allows_the_one_script_only(report):
    import hashlib

    page = Page(report(varied()))
    (policy,) = [a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    digest = base64.b64encode(hashlib.sha256(page.scripts[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; img-src data:;")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(alphabet=st.characters(codec=None), min_size=1))
def test_any_text_survives_reading_back(report, text):
    visible = re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]", "\ufffd", text).replace("\r\n", "\n")
    page = Page(report([item("a", verdict(reasoning=text), source=None, edited=None)]))
    assert visible.replace("\r", "\n") in page.text.replace("\r\n", "\n").replace("\r", "\n")


def test_summary_says_what_was_counted(report):
    words = Page(report(varied())).words
    assert "5.88 / 10 spread 3.09, median 5.75" in words
    assert "Edits 7 Scored 4 Refused 1 Timeout 2" in words
    assert "Keep 75 % 3 of 4" in words
    assert "Tokens read 7,000 Tokens written 800" in words
    assert "1 of 2 edits disagree" in words
    assert "7 of 7 shown" in words


def test_a_failure_shows_status_and_error_and_never_a_score(report):
    for status in list(VerdictStatus)[1:]:
        (card,) = cards(report([item("f", failure(status, "the judge said no"))]))
        text = Page(card).words
        assert "No score" in text
        assert status.value in text
        assert "the judge said no" in text
        assert "data-score" not in card
        assert "/ 10" not in text
        assert 'class="ruler"' not in card
        assert 'class="checks"' not in card


def test_a_failure_without_an_error_is_explained(report):
    (card,) = cards(report([item("f", failure(VerdictStatus.TIMEOUT, None))]))
    assert "did not answer in time" in card


def test_card_shows_all_that_the_verdict_holds(report):
    first, second, *_ = [Page(card).words for card in cards(report(varied()))]
    order = [
        first.index(s) for s in ("Turn the ball red", "7.5 / 10", "Keep 1 of 1", "Follow 1 of 1", "Quality 0 of 1")
    ]
    assert order == sorted(order)
    for part in (
        "color alter",
        "2 of 3 (67 %)",
        "6.5 · 8.5",
        "7.50 ± 1.25",
        "Failed passes 1",
        "Is the backdrop as it was? reason 1 50 % of passes agree",
        "Before a teal ball, after a red one.",
        "some/judge",
        "0123456789ab",
        "1,000 tokens read, 200 written",
        "1.5 s",
        "Simulation’s truth",
        "8.0 / 10 (verdict −0.5)",
        "3 of 3",
    ):
        assert part in first, part
    assert "truth: not met" in second
    assert "backdrop drift" in second
    assert "disagrees with truth" in second
    assert "disagrees with truth" not in first


def test_marks_are_named_for_those_who_do_not_see_them(report):
    page = Page(report(varied()))
    labels = [a["aria-label"] for a in page.all("svg") if "aria-label" in a]
    assert (labels.count("met"), labels.count("not met")) == (8, 4)
    assert all(a.get("alt") for a in page.all("img") if a.get("src"))


def test_pictures_are_inside_and_lossless_when_small(report):
    page = Page(report([item("a", verdict())]))
    source, edited, _ = [a for a in page.all("img") if a.get("src")]
    for shown, colour in ((source, "teal"), (edited, "crimson")):
        assert shown["loading"] == "lazy"
        assert (shown["width"], shown["height"]) == ("24", "16")
        image = Image.open(io.BytesIO(base64.b64decode(shown["src"].partition(",")[2])))
        assert image.format == "PNG"
        assert image.convert("RGB").tobytes() == picture(colour).tobytes()
    assert "100.0\u2009% of pixels differ" in page.text


def test_large_pictures_are_scaled_down_and_say_so(report):
    page = Page(report([item("a", verdict(), source=picture(size=(900, 600)))], max_side=300))
    source = next(a for a in page.all("img") if a.get("src"))
    assert source["src"].startswith("data:image/webp")
    assert (source["width"], source["height"]) == ("300", "200")
    assert "900 × 600 px, shown smaller" in page.text
    assert "edited: resized 24x16 -> 900x600" in page.text


def test_unchanged_pictures_are_called_so(report):
    assert "no pixel differs" in Page(report([item("a", verdict(), edited=picture())])).text


@pytest.mark.parametrize("broken", [None, "nowhere.png", b"no picture", 3])
def test_a_missing_picture_is_a_note(report, broken):
    page = Page(report([item("a", verdict(), edited=broken), item("b", verdict())]))
    assert page.text.count("No picture") == 2  # the edited one and the difference
    assert len([a for a in page.all("img") if a.get("src")]) == 1 + 3
    assert len(page.all("article")) == 2


def test_same_items_give_the_same_bytes(tmp_path):
    first, second = (write_report(iter(varied()), tmp_path / name / "r.html").read_bytes() for name in ("a", "b"))
    assert first == second


def test_nothing_is_left_behind_when_writing_fails(tmp_path):
    path = write_report(varied(), tmp_path / "deep" / "er" / "report.html")
    before = path.read_bytes()
    with pytest.raises(ValueError, match="no valid verdict"):
        write_report([*varied(), item("z", verdict()) | {"verdict": {}}], path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_no_items(report):
    page = Page(report([]))
    assert "no verdicts were given" in page.text
    assert not page.all("article")


def test_filters_offer_only_what_there_is(report):
    plain, rich = Page(report([item("a", verdict())])), Page(report(varied()))
    offered = {a["id"] for _, a in plain.elements if a.get("id", "").startswith("f-")}
    assert offered == {"f-text", "f-sort", "f-range", "f-low", "f-high", "f-status", "f-failed"}
    more = {a["id"] for _, a in rich.elements if a.get("id", "").startswith("f-")}
    assert more - offered == {"f-kind", "f-editor", "f-disagrees"}
    assert {"disagreement", "spread"} <= {a["value"] for a in rich.all("option")}
    assert not {"disagreement", "spread"} & {a["value"] for a in plain.all("option")}


def test_torch_is_not_imported():
    code = "import sys, editr1.reports; sys.exit(any(m in sys.modules for m in ('torch', 'transformers')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
