"""TransformersJudge on a tiny random model: same answers as plain generate, honest counts, nothing lost."""

import pytest
import torch
from PIL import Image

from editr1.errors import ConfigError, ModelError
from editr1.judges import ChatRequest, Judge, Message, Picture, ReplyStatus, Sampling, Text, TransformersJudge
from editr1.judges.testing import tiny_qwen
from editr1.judges.transformers import batches, bounded, disarm

COLOURS = ("red", "green", "blue", "white", "black", "yellow")


@pytest.fixture(scope="module")
def tiny():
    return tiny_qwen()


def picture(colour="red", size=(32, 32)):
    return Image.new("RGB", size, colour)


def request(colour="red", text="Look.", *, size=(32, 32), fresh=0, **sampling):
    sampling = {"max_tokens": 8, **sampling}
    content = (Picture(picture(colour, size)), Text(text))
    return ChatRequest((Message("user", content),), Sampling(**sampling), fresh)


def judge(tiny, **options):
    return TransformersJudge.from_objects(*tiny, name="tiny", **{"engine": "generate", **options})


def plain_generate(tiny, asked):
    """What transformers itself says to one chat, without batching or padding."""
    model, processor = tiny
    content = [
        {"type": "image", "image": p.image} if isinstance(p, Picture) else {"type": "text", "text": p.text}
        for p in asked.messages[0].content
    ]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    output = model.generate(**inputs, max_new_tokens=asked.sampling.max_tokens, do_sample=False)
    tokens = output[0, inputs["input_ids"].shape[1] :].tolist()
    ended = model.generation_config.eos_token_id in tokens
    return processor.tokenizer.decode(tokens, skip_special_tokens=True), inputs["input_ids"].shape[1], ended


class Ending:
    """A model that ends each answer after as many tokens as `lengths` says for its row (None: never)."""

    def __init__(self, model, lengths, limit=None, poison=None):
        self._model, self._lengths, self._limit, self._poison = model, lengths, limit, poison
        self.sizes = []

    def __getattr__(self, name):
        return getattr(self._model, name)

    def generate(self, input_ids, generation_config, **others):
        rows = len(input_ids)
        self.sizes.append(rows)
        if self._limit is not None and rows > self._limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 TiB")
        if self._poison is not None and self._poison in input_ids:
            raise ValueError("cannot digest this")
        width = generation_config.max_new_tokens
        tokens = torch.full((rows, width), 70)
        for row, length in zip(tokens, self._lengths):
            if length is not None:
                row[length] = self._model.generation_config.eos_token_id
                row[length + 1 :] = self._model.generation_config.pad_token_id
        return torch.cat([input_ids, tokens], 1)


def test_batched_answers_are_those_of_plain_generate(tiny):
    texts = ["Look.", "Is the star gone? " * 6, "x", "Is it sharp?"]
    asked = [request(c, t, size=s) for c, t, s in zip(COLOURS, texts, [(32, 32), (64, 32), (48, 48), (32, 32)])]
    replies = judge(tiny, batch_size=3).chat(asked)
    for one, reply in zip(asked, replies):
        text, length, ended = plain_generate(tiny, one)
        assert reply.text == text
        assert reply.usage.prompt_tokens == length  # padding is not counted
        assert reply.status is (ReplyStatus.OK if ended else ReplyStatus.TRUNCATED)
    assert len({r.text for r in replies}) > 1


def test_the_fast_engine_gives_the_same_answers(tiny):
    asked = [request(c, "Look.", max_tokens=6) for c in COLOURS]
    slow, fast = judge(tiny), judge(tiny, engine="fast")
    assert [(r.status, r.text, r.usage) for r in slow.chat(asked)] == [
        (r.status, r.text, r.usage) for r in fast.chat(asked)
    ]
    assert slow.fingerprint != fast.fingerprint


def test_ended_empty_and_truncated_answers_are_told_apart_and_counted(tiny):
    model = Ending(tiny[0], [3, 0, None])
    replies = judge((model, tiny[1])).chat([request(max_tokens=5)] * 3)
    assert [r.status for r in replies] == [ReplyStatus.OK, ReplyStatus.EMPTY, ReplyStatus.TRUNCATED]
    letter = tiny[1].tokenizer.decode([70])
    assert [r.text for r in replies] == [letter * 3, "", letter * 5]
    assert [r.usage.completion_tokens for r in replies] == [4, 1, 5]  # the end token counts
    assert all(r.usage.calls == 1 and r.seconds > 0 for r in replies)


def test_out_of_memory_halves_the_batch_and_goes_on(tiny):
    model = Ending(tiny[0], [1] * 9, limit=3)
    seen = []
    replies = judge((model, tiny[1]), batch_size=8).chat([request()] * 20, on_reply=lambda i, r: seen.append(i))
    assert all(r.ok for r in replies)
    assert sorted(seen) == list(range(20))
    assert model.sizes[:3] == [8, 4, 2]
    assert max(model.sizes[3:]) == 2  # it does not try the large size again


def test_one_chat_too_large_for_memory_fails_alone_with_advice(tiny):
    model = Ending(tiny[0], [1], limit=0)
    [reply] = judge((model, tiny[1])).chat([request()])
    assert reply.status is ReplyStatus.ERROR
    assert "max_pixels" in reply.error


def test_a_chat_that_cannot_be_answered_spoils_no_other(tiny):
    [poison] = tiny[1].tokenizer("~")["input_ids"]
    model = Ending(tiny[0], [1] * 8, poison=poison)
    replies = judge((model, tiny[1])).chat([request(text="~" if i == 4 else "fine") for i in range(7)])
    assert [r.ok for r in replies] == [i != 4 for i in range(7)]
    assert "cannot digest this" in replies[4].error


def test_chats_without_pictures_and_with_several_go_together(tiny):
    none = ChatRequest((Message("user", (Text("Hello"),)),), Sampling(max_tokens=4))
    two = ChatRequest(
        (
            Message("system", (Text("You judge."),)),
            Message("user", (Picture(picture()), Text("and"), Picture(picture("blue")))),
        ),
        Sampling(max_tokens=4),
    )
    asked = [none, two, request(max_tokens=4), none]
    together = judge(tiny).chat(asked)
    alone = [judge(tiny).chat([one])[0] for one in asked]
    assert [(r.text, r.usage) for r in together] == [(r.text, r.usage) for r in alone]
    assert together[0].text == together[3].text


class TestSampling:
    def test_a_seeded_answer_does_not_depend_on_batch_mates(self, tiny):
        draws = [request(c, temperature=1.5, seed=4, fresh=i) for i, c in enumerate(COLOURS)]
        together = judge(tiny).chat(draws)
        alone = [judge(tiny).chat([one])[0] for one in reversed(draws)][::-1]
        assert [r.text for r in together] == [r.text for r in alone]

    def test_seed_and_fresh_both_matter_and_the_same_pair_repeats(self, tiny):
        keys = [(1, 0), (1, 1), (2, 0), (1, 0)]
        texts = [r.text for r in judge(tiny).chat([request(temperature=2.0, seed=s, fresh=f) for s, f in keys])]
        assert texts[0] == texts[3]
        assert len(set(texts)) == 3

    def test_without_a_seed_draws_differ_and_the_global_stream_is_not_used(self, tiny):
        texts = []
        for _ in range(2):
            torch.manual_seed(0)
            texts += [r.text for r in judge(tiny).chat([request(temperature=2.0)] * 2)]
        assert len(set(texts)) == 4

    def test_draws_follow_the_softmax(self):
        from editr1.judges.sampling import SeededDraw

        logits = torch.tensor([0.0, 1.0, 2.0, -50.0])
        rows = 4000
        draw = SeededDraw(0.8, 1.0, list(range(rows)), torch.device("cpu"))
        drawn = draw(torch.zeros(rows, 1, dtype=torch.long), logits.repeat(rows, 1)).argmax(1)
        shares = torch.bincount(drawn, minlength=4) / rows
        torch.testing.assert_close(shares, (logits / 0.8).softmax(0), atol=0.03, rtol=0)

    def test_top_p_keeps_to_the_head(self):
        from editr1.judges.sampling import SeededDraw

        logits = torch.tensor([3.0, 2.9, 0.0, 0.0])
        draw = SeededDraw(1.0, 0.8, list(range(300)), torch.device("cpu"))
        drawn = draw(torch.zeros(300, 1, dtype=torch.long), logits.repeat(300, 1)).argmax(1)
        assert set(drawn.tolist()) == {0, 1}


class TestText:
    @pytest.mark.parametrize("token", ["<|im_end|>", "<|image_pad|>", "<|vision_start|>", "<|endoftext|>"])
    def test_control_tokens_in_a_text_stay_text(self, tiny, token):
        hostile = request(text=f"ok{token}ok")
        [reply] = judge(tiny).chat([hostile])
        assert reply.status in (ReplyStatus.OK, ReplyStatus.TRUNCATED)
        assert disarm(f"a{token}b", [token]) == f"a< {token[1:]}b"

    def test_other_text_is_left_alone(self):
        assert disarm("a < b | c > d", ["<|im_end|>"]) == "a < b | c > d"


class TestBatches:
    def test_each_request_once_alike_together_longest_first(self):
        asked = [request(text="x" * n, max_tokens=5 + n % 2, seed=n) for n in range(30)]
        made = list(batches(asked, 4))
        assert sorted(i for batch in made for i in batch) == list(range(30))
        for batch in made:
            assert len(batch) <= 4
            assert len({asked[i].sampling.max_tokens for i in batch}) == 1
            assert batch == sorted(batch, reverse=True)

    def test_on_reply_comes_batch_by_batch(self, tiny):
        model = Ending(tiny[0], [1] * 2)
        seen = []
        judge((model, tiny[1]), batch_size=2).chat(
            [request()] * 6, on_reply=lambda i, r: seen.append((i, len(model.sizes)))
        )
        assert [batch for _, batch in seen] == [1, 1, 2, 2, 3, 3]


class TestPixels:
    @pytest.mark.parametrize("size", [(300, 200), (1, 5000), (64, 64), (5, 3)])
    def test_area_comes_within_bounds_and_keeps_its_aspect(self, size):
        result = bounded(Image.new("RGB", size), 400, 4096)
        area = result.width * result.height
        assert area <= 4096
        assert area >= 400
        if min(size) > 10:
            assert result.width / result.height == pytest.approx(size[0] / size[1], rel=0.05)

    def test_a_picture_within_bounds_is_not_touched(self):
        image = Image.new("RGB", (30, 30))
        assert bounded(image, 400, 4096) is image

    def test_fewer_pixels_fewer_tokens(self, tiny):
        asked = request(size=(96, 96), max_tokens=2)
        whole = judge(tiny).chat([asked])[0].usage.prompt_tokens
        small = judge(tiny, max_pixels=32 * 32).chat([asked])[0].usage.prompt_tokens
        assert whole - small == 36 - 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    tiny_qwen(folder)
    return folder


class TestLoading:
    def test_from_a_folder(self, tiny, folder):
        loaded = TransformersJudge(folder, engine="generate")
        assert isinstance(loaded, Judge)
        assert loaded.chat([request()])[0].text == judge(tiny).chat([request()])[0].text
        assert loaded.name == str(folder)

    def test_the_fingerprint_changes_with_the_weights_only(self, folder, tmp_path):
        tiny_qwen(tmp_path, seed=1)
        first, again, other = (TransformersJudge(f).fingerprint for f in (folder, folder, tmp_path))
        assert first == again != other
        assert TransformersJudge(folder, max_pixels=999).fingerprint != first
        assert TransformersJudge(folder, dtype="bfloat16").fingerprint != first
        assert TransformersJudge(folder, batch_size=2).fingerprint == first

    def test_objects_in_memory_never_share_a_fingerprint_unless_told(self, tiny):
        assert judge(tiny).fingerprint != judge(tiny).fingerprint
        assert judge(tiny, fingerprint="x").fingerprint == judge(tiny, fingerprint="x").fingerprint

    def test_an_adapter_changes_the_answers(self, folder, tmp_path):
        peft = pytest.importorskip("peft")
        model, _ = tiny_qwen()
        tuned = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
        tuned.save_pretrained(tmp_path / "adapter")
        with_adapter = TransformersJudge(folder, adapter=str(tmp_path / "adapter"))
        plain = TransformersJudge(folder)
        assert with_adapter.fingerprint != plain.fingerprint
        assert with_adapter.chat([request()])[0].text != plain.chat([request()])[0].text

    def test_missing_and_wrong_models_say_what_to_do(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        (tmp_path / "file.txt").write_text("x")
        (tmp_path / "empty").mkdir()
        (tmp_path / "text").mkdir()
        (tmp_path / "text" / "config.json").write_text('{"model_type": "gpt2"}')
        cases = {
            str(tmp_path / "none"): "no model",
            str(tmp_path / "file.txt"): "is a file",
            str(tmp_path / "empty"): "no config.json",
            str(tmp_path / "text"): "cannot be loaded|no image-text-to-text",
            "qwen": "give the path of a folder",
        }
        for name, message in cases.items():
            with pytest.raises(ModelError, match=message) as caught:
                TransformersJudge(name)
            assert "\n" not in str(caught.value)

    def test_a_hub_id_that_cannot_be_had_is_one_sentence(self, monkeypatch):
        import editr1.judges.loading as loading

        def offline(name, **options):
            raise OSError("We couldn't connect to the hub\nand found nothing in the cached files.")

        monkeypatch.setattr(loading.AutoProcessor, "from_pretrained", offline)
        with pytest.raises(ModelError, match=r"'some/model' cannot be loaded from the hub .* check the name") as caught:
            TransformersJudge("some/model")
        assert "\n" not in str(caught.value)

    def test_options_out_of_range(self, folder):
        for options in ({"engine": "warp"}, {"batch_size": 0}, {"device": "abacus"}, {"dtype": "int8"}):
            with pytest.raises(ConfigError):
                TransformersJudge(folder, **options)
        with pytest.raises(ConfigError, match="min_pixels"):
            TransformersJudge(folder, min_pixels=10, max_pixels=5)

    def test_a_shipped_model_that_is_not_there_says_how_to_make_it(self, monkeypatch, tmp_path):
        from editr1.judges import names

        monkeypatch.setattr(names, "MODELS_FOLDER", tmp_path)
        with pytest.raises(ModelError, match=r"train gcpo recipes/sticker/gcpo.toml --ship .* none is there"):
            TransformersJudge("embedded")
        tiny_qwen(tmp_path / names.SHIPPED["embedded"])
        assert TransformersJudge("embedded").name == "embedded"


def test_a_model_in_training_stays_in_training(tiny):
    tiny[0].train()
    try:
        judge(tiny).chat([request(max_tokens=2)])
        assert tiny[0].training
    finally:
        tiny[0].eval()


def test_nothing_to_do(tiny):
    assert judge(tiny).chat([]) == []


def test_a_failing_fast_engine_loses_nothing(tiny, caplog):
    asked = [request(c) for c in COLOURS]
    wanted = judge(tiny).chat(asked)

    class Breaks:
        def generate(self, requests, on_reply):
            on_reply(2, wanted[2])
            raise RuntimeError("a fault of the engine's own")

    fast, seen = judge(tiny, engine="auto"), []
    fast._fast = Breaks()
    replies = fast.chat(asked, on_reply=lambda index, reply: seen.append(index))
    assert [r.text for r in replies] == [r.text for r in wanted]
    assert sorted(seen) == list(range(len(asked)))
    assert "the fast engine failed" in caplog.text
    strict = judge(tiny, engine="fast")
    strict._fast = Breaks()
    with pytest.raises(RuntimeError, match="own"):
        strict.chat(asked)
