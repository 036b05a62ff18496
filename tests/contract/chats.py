"""Chats with two pictures, as a verifier asks them; needs nothing but the package."""

from PIL import Image

from editr1.judges import ChatRequest, Message, Picture, Sampling, Text

COLOURS = ("red", "green", "blue", "white", "black", "yellow")


def chat(colour="red", text="Is the star gone?", **sampling):
    content = (
        Text("Source:"),
        Picture(Image.new("RGB", (96, 96), "grey")),
        Text(text),
        Picture(Image.new("RGB", (96, 96), colour)),
    )
    messages = (Message("system", (Text("You judge."),)), Message("user", content))
    return ChatRequest(messages, Sampling(**{"max_tokens": 8, **sampling}))
