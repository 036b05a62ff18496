"""Chats and answers as tensors, encoded as the judge encodes them when the model is asked.

The same pictures go through the same chat template and the same processor; then the answer's tokens follow, up to and
with the token that ends the model's turn. Labels stand on these alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from editr1.errors import DataError
from editr1.judges.base import Message, Picture, Text
from editr1.judges.transformers import control_tokens, disarm, to_conversation

IGNORED = -100


def chat_messages(chat: Mapping[str, Any], source: Image.Image, edited: Image.Image) -> tuple[Message, ...]:
    """The messages of a stored chat with their pictures: the first is the source, the second the edited one.

    Raises:
        DataError: if the chat has places for more pictures, or a part of another type.
    """
    pictures = iter((source, edited))
    messages = []
    for message in chat["messages"]:
        content: list[Text | Picture] = []
        for part in message["content"]:
            if part["type"] == "text":
                content.append(Text(part["text"]))
                continue
            picture = next(pictures, None)
            if part["type"] != "image" or picture is None:
                raise DataError(f"a chat may hold text and two pictures, and has another part of type {part['type']!r}")
            content.append(Picture(picture))
        messages.append(Message(message["role"], tuple(content)))
    return tuple(messages)


class Encoder:
    """From chats and answers to tensors.

    Args:
        processor: of an image-text-to-text model, with a chat template.
        end_tokens: ids at which the model stops (`generation_config.eos_token_id`).
        pad_to: batches are padded to a multiple of this length.
    """

    def __init__(self, processor: Any, end_tokens: Iterable[int], *, pad_to: int = 1) -> None:
        self.pad_to = pad_to
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.end = end_of_turn(processor, set(end_tokens))
        self.pad = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self.end
        self._control = control_tokens(self.tokenizer)
        self._picture_tokens: dict[tuple[int, int], int] = {}

    def prompts(self, chats: Sequence[Sequence[Message]]) -> dict[str, Tensor]:
        """What the judge feeds the model: (B, L) tensors, padded on the left, and the pictures' tensors."""
        texts = [self._text(chat) for chat in chats]
        images = [[p.image for m in chat for p in m.content if isinstance(p, Picture)] for chat in chats]
        side, self.tokenizer.padding_side = self.tokenizer.padding_side, "left"
        try:
            return dict(
                self.processor(
                    text=texts,
                    images=images if any(images) else None,
                    padding=True,
                    return_tensors="pt",
                    add_special_tokens=self._adds_special(texts[0]),
                )
            )
        finally:
            self.tokenizer.padding_side = side

    def answer(self, text: str) -> list[int]:
        """Ids of an answer, with the token that ends the turn."""
        return [*self.tokenizer(disarm(text, self._control), add_special_tokens=False).input_ids, self.end]

    def batch(self, chats: Sequence[Sequence[Message]], answers: Sequence[str]) -> dict[str, Tensor]:
        """Chats with their answers, padded on the right.

        Returns:
            input_ids, attention_mask, labels (IGNORED outside the answers) and what else the processor gives for each
            token, (B, L); and the pictures' tensors.
        """
        prompts = self.prompts(chats)
        kept = prompts["attention_mask"].bool()
        endings = [torch.tensor(self.answer(text)) for text in answers]
        longest = max(int(row.sum()) + len(ending) for row, ending in zip(kept, endings, strict=True))
        longest = -(-longest // self.pad_to) * self.pad_to
        filled = {"input_ids": self.pad}  # what stands behind the answers; 0 in every other tensor
        batch: dict[str, Tensor] = {"labels": torch.full((len(chats), longest), IGNORED)}
        for name, tensor in prompts.items():
            if tensor.shape != kept.shape or tensor.is_floating_point():
                batch[name] = tensor  # of the pictures
                continue
            batch[name] = tensor.new_full((len(chats), longest), filled.get(name, 0))
            for row in range(len(chats)):
                own = tensor[row, kept[row]]
                batch[name][row, : len(own)] = own
        for row, ending in enumerate(endings):
            start = int(kept[row].sum())
            place = slice(start, start + len(ending))
            batch["input_ids"][row, place] = batch["labels"][row, place] = ending
            batch["attention_mask"][row, place] = 1
        return batch

    def length(self, chat: Sequence[Message], answer: str) -> tuple[int, int]:
        """Tokens of a chat with its answer, and of the answer alone; of the pictures only the sizes matter."""
        text = self._text(chat)
        prompt = len(self.tokenizer(text, add_special_tokens=self._adds_special(text)).input_ids)
        prompt += sum(self._picture(p.image.size) for m in chat for p in m.content if isinstance(p, Picture))
        ending = len(self.answer(answer))
        return prompt + ending, ending

    def _picture(self, size: tuple[int, int]) -> int:
        """Tokens that a picture adds to its placeholder; found once for each size, with a blank picture."""
        if size not in self._picture_tokens:
            chat = (Message("user", (Picture(Image.new("RGB", size)),)),)
            text = self._text(chat)
            bare = len(self.tokenizer(text, add_special_tokens=self._adds_special(text)).input_ids)
            self._picture_tokens[size] = self.prompts([chat])["input_ids"].shape[1] - bare
        return self._picture_tokens[size]

    def _text(self, chat: Sequence[Message]) -> str:
        disarmed = [
            Message(m.role, tuple(Text(disarm(p.text, self._control)) if isinstance(p, Text) else p for p in m.content))
            for m in chat
        ]
        text: str = self.processor.apply_chat_template(
            to_conversation(disarmed), tokenize=False, add_generation_prompt=True
        )
        return text

    def _adds_special(self, text: str) -> bool:
        """Not where the template has written the first token already."""
        bos = self.tokenizer.bos_token
        return not (bos and text.startswith(bos))


def end_of_turn(processor: Any, end_tokens: set[int]) -> int:
    """The token that the chat template writes behind an answer and at which the model stops."""
    mark = "an answer"
    chat = [{"role": "user", "content": [{"type": "text", "text": "?"}]}]
    chat.append({"role": "assistant", "content": [{"type": "text", "text": mark}]})
    text = processor.apply_chat_template(chat, tokenize=False)
    behind = processor.tokenizer(text.rpartition(mark)[2], add_special_tokens=False).input_ids
    usual = processor.tokenizer.eos_token_id
    return next((token for token in behind if token in end_tokens), min(end_tokens) if usual is None else usual)
