"""The tiny random model behaves like the large ones that it stands for."""

import pytest
import torch
from PIL import Image

from editr1.judges.qwen_parts import SPECIAL_TOKENS
from editr1.judges.testing import tiny_qwen, tiny_tokenizer


def picture(size=(96, 96), colour="red"):
    return Image.new("RGB", size, colour)


def chat(processor, *pictures, text="Hello"):
    content = [*({"type": "image", "image": p} for p in pictures), {"type": "text", "text": text}]
    messages = [{"role": "user", "content": content}]
    return processor.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )


@pytest.mark.parametrize("text", ["", "Is the star gone?", "naïve 星 \U0001f600\n\t{}", "<|im_end|>"])
def test_tokenizer_gives_any_text_back(text):
    tokenizer = tiny_tokenizer()
    assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_special_tokens_are_single_tokens_and_the_vocabulary_is_as_large_as_asked():
    tokenizer = tiny_tokenizer()
    ids = tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS))
    assert all(tokenizer(token).input_ids == [i] for token, i in zip(SPECIAL_TOKENS, ids))
    assert len(tokenizer) == 384
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.pad_token == "<|endoftext|>"


def test_a_96_pixel_picture_takes_36_tokens():
    _, processor = tiny_qwen()
    inputs = chat(processor, picture(), picture(colour="blue"))
    image_id = processor.tokenizer.convert_tokens_to_ids("<|image_pad|>")
    assert (inputs["input_ids"] == image_id).sum() == 72


def test_answers_depend_on_the_picture_and_survive_saving(tmp_path):
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model, processor = tiny_qwen(tmp_path)
    again, processor_again = (
        AutoModelForImageTextToText.from_pretrained(tmp_path),
        AutoProcessor.from_pretrained(tmp_path),
    )
    with torch.inference_mode():
        logits = [model(**chat(processor, picture(colour=c))).logits[0, -1] for c in ("red", "blue")]
        loaded = again(**chat(processor_again, picture(colour="red"))).logits[0, -1]
    assert not torch.allclose(logits[0], logits[1], atol=1e-2)
    torch.testing.assert_close(logits[0], loaded)


def test_same_seed_same_weights_and_the_global_random_state_is_left_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first, second, other = tiny_qwen()[0], tiny_qwen()[0], tiny_qwen(seed=1)[0]
    assert torch.equal(torch.rand(1), expected)
    weights = [m.get_input_embeddings().weight for m in (first, second, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
