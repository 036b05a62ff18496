import numpy as np
import pytest
import torch

from editr1.judges.base import Picture
from editr1.stickers.examples import EXAMPLES
from editr1.stickers.models import SIZES, Size, make_model, make_processor, train_tokenizer
from editr1.training.uniform import patchify, rope_positions, uniform_pictures
from editr1.training.vlm.data import CHUNK, IGNORED, ChunkedExamples, Encoder


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(150)


@pytest.fixture(scope="module")
def processor(tokenizer):
    return make_processor(tokenizer)


@pytest.fixture(scope="module")
def model(tokenizer):
    SIZES["tiny"] = Size(64, 2, 1, 96, 64, 2, 96)
    try:
        return make_model("tiny", tokenizer).eval()
    finally:
        del SIZES["tiny"]


def as_chat(messages):
    return [
        {
            "role": m.role,
            "content": [
                {"type": "image", "image": p.image} if isinstance(p, Picture) else {"type": "text", "text": p.text}
                for p in m.content
            ],
        }
        for m in messages
    ]


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("index", [0, 3, 6])
def test_training_sees_exactly_what_the_processor_makes(name, index, tokenizer, processor, model):
    """Token ids, pixels and positions equal the processor's and the model's own for the same chat."""
    example = EXAMPLES[name]("uniform", index)
    prompt, answer, pictures = Encoder(tokenizer)(example)
    inputs = processor.apply_chat_template(
        as_chat(example.messages), tokenize=True, add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )
    assert inputs["input_ids"][0].tolist() == prompt
    assert tokenizer.decode(answer[:-1]) == example.answer
    assert answer[-1] == tokenizer.eos_token_id
    ours = patchify(torch.from_numpy(np.stack(pictures)), 8)
    torch.testing.assert_close(ours, inputs["pixel_values"], atol=1e-5, rtol=0)
    positions, _ = model.model.get_rope_index(
        inputs["input_ids"],
        mm_token_type_ids=inputs["mm_token_type_ids"],
        image_grid_thw=inputs["image_grid_thw"],
        attention_mask=inputs["attention_mask"],
    )
    mine = rope_positions(np.array(prompt), Encoder(tokenizer).image_id, 6)
    assert (positions[:, 0].numpy() == mine).all()


def test_batched_attention_gives_the_models_own_logits_and_is_undone(tokenizer, processor, model):
    example = EXAMPLES["verify"]("uniform", 1)
    inputs = processor.apply_chat_template(
        as_chat(example.messages), tokenize=True, add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )
    with torch.no_grad():
        own = model(**inputs).logits
        with uniform_pictures(model):
            ours = model(**inputs).logits
        again = model(**inputs).logits
    torch.testing.assert_close(ours, own, atol=1e-4, rtol=1e-4)
    assert not torch.equal(ours, torch.zeros_like(ours))
    assert torch.equal(own, again)
    assert all("forward" not in vars(block.attn) for block in model.model.visual.blocks)


def test_windows_are_refused(model):
    model.model.visual.fullatt_block_indexes = [0]
    try:
        with pytest.raises(ValueError, match="whole picture"), uniform_pictures(model):
            pass
    finally:
        model.model.visual.fullatt_block_indexes = [0, 1]


def test_labels_cover_the_answers_and_nothing_else(tokenizer):
    batches = ChunkedExamples(EXAMPLES["verify"], "labels", 2, 1, tokenizer)[0]
    assert len(batches) == CHUNK
    encoder = Encoder(tokenizer)
    wanted = sorted(tuple(encoder(EXAMPLES["verify"]("labels", i))[1]) for i in range(2 * CHUNK))
    found = sorted(tuple(row[row != IGNORED].tolist()) for b in batches for row in b.labels)
    assert found == wanted
    for b in batches:
        assert ((b.labels == IGNORED) | (b.labels == b.input_ids)).all()
        assert len(b.pictures) == (b.input_ids == encoder.image_id).sum() / 36
