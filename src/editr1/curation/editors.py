"""Editors that candidates can come from: finished pictures, a server, a diffusers pipeline. See also `stickers`."""

from __future__ import annotations

import asyncio
import base64
import os
import urllib.request
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editr1.curation.edit import EditJob, Failed, OnEdit
from editr1.curation.records import as_png, content_id
from editr1.errors import DataError, JudgeError, MissingExtraError, ModelError
from editr1.images import load_image
from editr1.types import EditTask

if TYPE_CHECKING:
    from editr1.editors import PipelineEditor

_MOST_BYTES = 64 << 20
_ENDINGS = (".png", ".jpg", ".jpeg", ".webp")


class FolderEditor:
    """Edits that are finished already, as files in a folder.

    Args:
        folder: that holds them.
        pattern: of a file's name without ending; `{name}` is the source picture's, `{id}` the context's id,
            `{sample}` the number of the candidate, from 0.
        name: of the editor that made them; the folder's name if None.

    Raises:
        DataError: if there is no such folder, or the pattern tells contexts or candidates not apart.
    """

    def __init__(self, folder: str | Path, *, pattern: str = "{name}", name: str | None = None) -> None:
        self.folder = Path(folder).expanduser()
        self.pattern = pattern
        if not self.folder.is_dir():
            raise DataError(f"there is no folder of edits at {self.folder}")
        if "{name}" not in pattern and "{id}" not in pattern:
            raise DataError(f"the pattern {pattern!r} names all files alike: it needs {{name}} or {{id}}")
        self.name = name or self.folder.name
        files = sorted((p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in self.folder.rglob("*") if p.is_file())
        self.fingerprint = f"folder:{pattern}:{content_id(files)}"

    def edit(self, jobs: Sequence[EditJob], *, on_edit: OnEdit) -> None:
        """Read each candidate's file; one that is not there is a failure of kind "missing"."""
        for index, job in enumerate(jobs):
            context = job.decomposed.context
            stem = self.pattern.format(name=context.name, id=context.id, sample=job.sample)
            files = [self.folder / f"{stem}{ending}" for ending in _ENDINGS]
            found = next((file for file in files if file.is_file()), None)
            on_edit(index, found.read_bytes() if found else Failed("missing", f"there is no {files[0]}"))


class ServerEditor:
    """An OpenAI-style server with an `images/edits` endpoint, asked through the official SDK.

    Args:
        model: as the server names it.
        base_url: up to and including `/v1`; the SDK's default if None.
        api_key_env: name of the environment variable with the key.
        concurrency: requests under way at once.
        timeout: seconds for one attempt.
        max_retries: further attempts after failures that may pass, with doubling waits.
        arguments: further fields of the request, e.g. `size`, `quality`, `response_format`; `seed` is sent only if
            `send_seed` is set, because many services refuse it.
        send_seed: send each candidate's own seed.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key_env: str = "OPENAI_API_KEY",
        concurrency: int = 4,
        timeout: float = 300.0,
        max_retries: int = 3,
        arguments: Mapping[str, Any] | None = None,
        send_seed: bool = False,
        backoff_seconds: float = 1.0,
    ) -> None:
        self.name = model.rpartition("/")[2]
        self.model = model
        self.base_url = base_url
        self.concurrency = concurrency
        self.timeout = timeout
        self.max_retries = max_retries
        self.arguments = dict(arguments or {})
        self.send_seed = send_seed
        self.backoff_seconds = backoff_seconds
        self._key = os.environ.get(api_key_env) or ("none" if base_url else None)
        if self._key is None:
            raise JudgeError(f"no key for the editor {model!r}: set the environment variable {api_key_env}")
        self.fingerprint = f"server:{base_url}:{model}:{send_seed}:{content_id(self.arguments)}"

    def edit(self, jobs: Sequence[EditJob], *, on_edit: OnEdit) -> None:
        """Ask for all candidates, `concurrency` at a time."""
        from editr1.judges.background import run_handing_over

        async def work(emit: Any) -> None:
            import openai

            queue = iter(enumerate(jobs))
            async with openai.AsyncOpenAI(
                api_key=self._key, base_url=self.base_url, timeout=self.timeout, max_retries=0
            ) as client:

                async def worker() -> None:
                    for index, job in queue:
                        emit((index, await self._make(client, job)))

                async with asyncio.TaskGroup() as group:
                    for _ in range(min(self.concurrency, len(jobs))):
                        group.create_task(worker())

        run_handing_over(work, lambda item: on_edit(*item))

    async def _make(self, client: Any, job: EditJob) -> bytes | Failed:
        """Ask until there is a picture, it is no use, or the attempts are used up."""
        from editr1.judges.attempts import backoff, read_failure

        context = job.decomposed.context
        source = await asyncio.to_thread(lambda: as_png(load_image(context.source)))
        for attempt in range(self.max_retries + 1):
            try:
                async with asyncio.timeout(self.timeout):
                    response = await client.images.edit(
                        model=self.model,
                        image=("source.png", source, "image/png"),
                        prompt=context.instruction,
                        extra_body={"seed": job.seed} if self.send_seed else None,
                        **self.arguments,
                    )
                    return await self._picture(response)
            except Exception as exc:  # whatever a server makes the SDK raise is this one candidate's failure
                failure = read_failure(exc)
                if not failure.retry or attempt == self.max_retries:
                    return Failed(failure.status.value, failure.message)
                await asyncio.sleep(max(backoff(attempt, self.backoff_seconds), failure.retry_after or 0.0))
        raise AssertionError("unreachable")

    async def _picture(self, response: Any) -> bytes | Failed:
        first = next(iter(getattr(response, "data", None) or ()), None)
        if getattr(first, "b64_json", None):
            return base64.b64decode(first.b64_json)  # type: ignore[union-attr]
        url = getattr(first, "url", None)
        if url and url.startswith(("http://", "https://", "data:")):
            return await asyncio.to_thread(_fetch, url, self.timeout)
        return Failed("empty", "the server's answer holds no picture")


class DiffusersEditor:
    """An instruction-editing pipeline of diffusers, by path or hub id; needs the extra `editors`.

    The pipeline is loaded when the first picture is to be made, from safetensors only.

    Args:
        model: a folder, or a hub id such as "black-forest-labs/FLUX.1-Kontext-dev".
        arguments: passed to each call, e.g. `num_inference_steps`, `guidance_scale`.
        dtype: of the weights.
        device: "cuda" where there is one, else "cpu", if None.
        revision: of a hub id.
    """

    def __init__(
        self,
        model: str,
        *,
        arguments: Mapping[str, Any] | None = None,
        dtype: str = "bfloat16",
        device: str | None = None,
        revision: str | None = None,
    ) -> None:
        self.model = model
        self.name = Path(model).name
        self.arguments = dict(arguments or {})
        self.dtype = dtype
        self.device = device
        self.revision = revision
        files = [(p.name, p.stat().st_size) for p in sorted(Path(model).rglob("*.safetensors"))]
        self.fingerprint = f"diffusers:{model}:{revision}:{dtype}:{content_id(self.arguments, files)}"

    @cached_property
    def pipeline(self) -> Any:
        """The loaded pipeline.

        Raises:
            MissingExtraError, ModelError: if it cannot be loaded.
        """
        try:
            import diffusers
            import torch
        except ImportError as exc:
            raise MissingExtraError("editing with diffusers", "editors") from exc
        try:
            loaded = diffusers.DiffusionPipeline.from_pretrained(
                self.model, torch_dtype=getattr(torch, self.dtype), revision=self.revision, use_safetensors=True
            )
        except Exception as exc:
            raise ModelError(f"the editor {self.model!r} cannot be loaded: {str(exc).splitlines()[0]}") from exc
        loaded.set_progress_bar_config(disable=True)
        return loaded.to(self.device or ("cuda" if torch.cuda.is_available() else "cpu"))

    def edit(self, jobs: Sequence[EditJob], *, on_edit: OnEdit) -> None:
        """Make the candidates one by one, each from noise of its own seed."""
        import torch

        for index, job in enumerate(jobs):
            context = job.decomposed.context
            source = load_image(context.source)
            generator = torch.Generator("cpu").manual_seed(job.seed)
            try:
                made = self.pipeline(image=source, prompt=context.instruction, generator=generator, **self.arguments)
            except torch.OutOfMemoryError as exc:
                on_edit(index, Failed("out of memory", f"{source.width}x{source.height}: {str(exc).splitlines()[0]}"))
                continue
            on_edit(index, as_png(load_image(made.images[0])))


class TrainedEditor:
    """An editor of `editr1.editors`, as editor RL samples from it: contexts are encoded together, batches are full.

    The pipeline is loaded when the first picture is to be made.

    Args:
        model: folder, hub id, or the name of an editor that ships, such as "embedded".
        lora: weights on it: folder, hub id, or the name of some that ship.
        steps: of the sampler; None is the editor's own number.
        batch_size: pictures at a time.
        device: the first GPU, else the CPU, if None.
    """

    def __init__(
        self,
        model: str,
        *,
        lora: str | None = None,
        steps: int | None = None,
        batch_size: int = 16,
        device: str | None = None,
    ) -> None:
        from editr1.editors.names import resolve_editor, resolve_lora

        folders = [resolve_editor(model), *([] if lora is None else [resolve_lora(lora)])]
        self.model, self.lora, self.steps = model, lora, steps
        self.batch_size = batch_size
        self.device = device
        self.name = Path(folders[-1]).name
        files = [(p.name, p.stat().st_size) for f in folders for p in sorted(Path(f).rglob("*.safetensors"))]
        self.fingerprint = f"trained:{model}:{lora}:{steps}:{content_id(files)}"

    @cached_property
    def editor(self) -> PipelineEditor:
        """The loaded editor.

        Raises:
            MissingExtraError, ModelError: if it cannot be loaded.
        """
        from editr1.editors import build_editor

        return build_editor(self.model, lora=self.lora, device=self.device)

    def edit(self, jobs: Sequence[EditJob], *, on_edit: OnEdit) -> None:
        """Make the candidates in batches, each from noise of its own seed."""
        from editr1.editors import sample_images

        for start in range(0, len(jobs), self.batch_size):
            batch = jobs[start : start + self.batch_size]
            contexts = self.editor.encode([_task(job) for job in batch])
            seeds = [job.seed for job in batch]
            pictures = sample_images(self.editor, contexts, seeds, self.steps, batch_size=self.batch_size)
            for index, picture in enumerate(pictures, start):
                on_edit(index, as_png(picture))


def _task(job: EditJob) -> EditTask:
    context = job.decomposed.context
    return EditTask(context.id, context.source, context.instruction, job.decomposed.principles, context.kind)


def _fetch(url: str, timeout: float) -> bytes:
    with urllib.request.urlopen(url, timeout=timeout) as answer:
        data: bytes = answer.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise ValueError(f"the picture at {url[:80]} is larger than {_MOST_BYTES >> 20} MiB")
    return data
