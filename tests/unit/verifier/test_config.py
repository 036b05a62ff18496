import json
from dataclasses import replace

import pytest
from PIL import Image

from editr1.errors import ConfigError, ModelError
from editr1.judges import ScriptedJudge
from editr1.judges.base import Sampling
from editr1.judges.testing import tiny_qwen
from editr1.types import Category, Principle, VerdictStatus
from editr1.verifier import Verifier, load_template
from editr1.verifier.config import CONFIG_NAME, VerifierConfig

COMPACT = {
    "template": "compact",
    "max_tokens": 24,
    "temperature": 0.0,
    "passes_temperature": 0.6,
    "notice": "Stickers.",
}
PRINCIPLES = [Principle("Is it red?", Category.FOLLOW)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    tiny_qwen(path)
    (path / CONFIG_NAME).write_text(json.dumps(COMPACT))
    return path


def test_from_pretrained_reads_the_config_and_judges(folder):
    verifier = Verifier.from_pretrained(folder, passes=2, max_tries=1, device="cpu")
    assert verifier.template.name == "compact"
    assert (verifier.sampling.max_tokens, verifier.passes_temperature, verifier.notice) == (24, 0.6, COMPACT["notice"])
    picture = Image.new("RGB", (32, 32), "red")
    verdict = verifier.score(picture, picture, "Make it red", PRINCIPLES)
    assert verdict.status is VerdictStatus.UNPARSEABLE  # random weights talk nonsense, and nonsense has no score
    assert verdict.score is None
    assert verdict.usage.completion_tokens > 0
    assert "2 of 2 passes failed" in verdict.error


def test_from_pretrained_without_config(folder, tmp_path):
    for file in folder.iterdir():
        if file.name != CONFIG_NAME:
            (tmp_path / file.name).symlink_to(file)
    verifier = Verifier.from_pretrained(tmp_path, device="cpu")
    assert (verifier.template.name, verifier.notice, verifier.sampling.max_tokens) == ("default", None, 2048)
    assert Verifier.from_pretrained(tmp_path, template="compact", device="cpu").template.name == "compact"


def test_unknown_model():
    with pytest.raises(ModelError):
        Verifier.from_pretrained("no/such-model-anywhere")


def test_saved_config_comes_back(tmp_path):
    verifier = Verifier(ScriptedJudge([]), template="compact", sampling=Sampling(max_tokens=99), notice="Hm.")
    path = verifier.save_config(tmp_path / "new")
    assert path.name == CONFIG_NAME
    config = VerifierConfig.read(path)
    assert (config.template, config.max_tokens, config.notice) == ("compact", 99, "Hm.")
    assert [p.name for p in path.parent.iterdir()] == [CONFIG_NAME]


def test_own_template_is_saved_beside_the_config(tmp_path):
    own = replace(load_template("default"), name="default", answer='Quote " back\\slash\ttab\x7f 杯\n"""\'\'\'')
    path = Verifier(ScriptedJudge([]), template=own).save_config(tmp_path)
    assert VerifierConfig.read(path).load_template(tmp_path) == own


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", CONFIG_NAME),
        ('{"templat": "compact"}', "templat.*known are template"),
        ('{"max_tokens": 0}', "max_tokens"),
        ('{"temperature": "hot"}', "temperature"),
        ('{"passes_temperature": 0}', "passes_temperature"),
    ],
)
def test_bad_config_is_named(tmp_path, text, message):
    (tmp_path / CONFIG_NAME).write_text(text)
    with pytest.raises(ConfigError, match=message) as error:
        VerifierConfig.read(tmp_path / CONFIG_NAME)
    assert "\n" not in str(error.value)


def test_the_notice_is_given_once_and_only_for_foreign_pictures():
    from PIL import Image

    said: list[str] = []
    judge = ScriptedJudge(lambda request: "nothing")
    verifier = Verifier(judge, max_tries=1, notice="Hm.", notice_unless=(96, 96), on_notice=said.append)
    principle = [{"question": "Is it red?", "category": "Follow"}]

    def score(side):
        verifier.score(Image.new("RGB", (side, side)), Image.new("RGB", (side, side)), "make it red", principle)

    score(96)
    assert said == []
    score(100)
    score(101)
    assert said == ["Hm."]


def test_the_notice_is_a_warning_by_default():
    from PIL import Image

    verifier = Verifier(ScriptedJudge(lambda request: "nothing"), max_tries=1, notice="Hm.")
    with pytest.warns(UserWarning, match="Hm."):
        verifier.score(
            Image.new("RGB", (9, 9)), Image.new("RGB", (9, 9)), "x", [{"question": "Is it?", "category": "Keep"}]
        )
