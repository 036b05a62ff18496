"""Runs in the environment of the package `editscore`: times its scoring loop on the chats of `scoring.py`.

editscore's local back end takes one chat at a time, in bfloat16, and sends its inputs to "cuda" whatever there is. To
time it at all on a machine without a GPU, that one call is sent to the CPU. Length and greedy choice are fixed as for
the other contestants. Says "ready", then scores the whole group for each line it is sent and says "done".
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def main(task_path: str) -> None:
    """Read the task and serve it until the input ends."""
    task = json.loads(Path(task_path).read_text(encoding="utf-8"))

    from editscore import EditScore
    from transformers import BatchFeature

    if task["device"] == "cpu":
        send = BatchFeature.to

        def to_cpu(self: BatchFeature, *args: Any, **kwargs: Any) -> BatchFeature:
            return send(self, *("cpu" if arg == "cuda" else arg for arg in args), **kwargs)

        BatchFeature.to = to_cpu
    backend = EditScore(backbone="qwen25vl", model_name_or_path=task["model"]).model
    generate = backend.model.generate

    def fixed(**inputs: Any) -> Any:
        sampling = ("max_new_tokens", "do_sample", "temperature", "top_p", "top_k")
        inputs = {name: value for name, value in inputs.items() if name not in sampling}
        return generate(**inputs, max_new_tokens=task["tokens"], do_sample=False, eos_token_id=-1, pad_token_id=0)

    backend.model.generate = fixed
    print("ready", flush=True)
    for _ in sys.stdin:
        for chat in task["chats"]:
            backend.inference(backend.prepare_input(chat["images"], chat["text"]))
        print("done", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
