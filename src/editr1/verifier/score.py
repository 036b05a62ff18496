"""Score: render, ask, parse, for one edit or many."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from editr1.errors import ConfigError, DataError, DecomposeError, ImageError
from editr1.images import MAX_PIXELS
from editr1.judges.base import ChatReply, Judge, ReplyStatus, Sampling
from editr1.types import EditTask, EditVerdict, ImageLike, Principle, Usage, VerdictStatus
from editr1.verifier.asking import Ask, Outcome, ask
from editr1.verifier.config import VerifierConfig, find_config
from editr1.verifier.decompose import Context, Decomposer, Decomposition
from editr1.verifier.ensemble import combine
from editr1.verifier.inputs import Item, Job, Loader, Principles, fields_of, id_of
from editr1.verifier.parse import parse_verdict
from editr1.verifier.render import render_score
from editr1.verifier.template import PromptTemplate, load_template

OnVerdict = Callable[[int, EditVerdict], None]

_CHUNK_ITEMS = 256
_CHUNK_PIXELS = 400_000_000
"""Pictures held in memory at once: more edits than this are judged in several calls of the judge."""


class Verifier:
    """Judges edits by principles and gives verdicts, through any judge.

    Args:
        judge: answers the chats.
        template: prompt template, by name, path or as such.
        passes: how many answers make a verdict; from two on, they are sampled.
        sampling: of an answer. With several passes, a temperature of 0 becomes `passes_temperature`.
        max_tries: how often an answer is asked for that cannot be read; fresh tries are never greedy.
        seed: of sampling, unless `sampling` has its own, and of the exemplars shown when decomposing.
        decompose_judge: who splits instructions; the judge itself if None.
        notice: one line that users should see before they trust a score; given once, to `on_notice`.
        notice_unless: (width, height) of source pictures that need no notice.
        on_notice: takes the notice; by default it becomes a warning.
        passes_temperature: see `sampling`.
        max_image_pixels: limit on the pixels of a picture; None for none.
    """

    def __init__(
        self,
        judge: Judge,
        *,
        template: str | Path | PromptTemplate = "default",
        passes: int = 1,
        sampling: Sampling = Sampling(max_tokens=2048),  # noqa: B008 - frozen
        max_tries: int = 3,
        seed: int = 0,
        decompose_judge: Judge | None = None,
        notice: str | None = None,
        notice_unless: tuple[int, int] | None = None,
        on_notice: Callable[[str], None] = warnings.warn,
        passes_temperature: float = 0.7,
        max_image_pixels: int | None = MAX_PIXELS,
    ) -> None:
        if isinstance(judge, str | Path):
            raise ConfigError(f"a verifier is made around a judge: write Verifier.from_pretrained({str(judge)!r})")
        if passes < 1 or max_tries < 1:
            raise ConfigError(f"passes and max_tries must be at least 1, got {passes} and {max_tries}")
        if passes_temperature <= 0:
            raise ConfigError(f"passes_temperature must be above 0, got {passes_temperature}: greedy passes are equal")
        self.judge = judge
        self.template = template if isinstance(template, PromptTemplate) else load_template(template)
        self.passes = passes
        self.max_tries = max_tries
        self.notice = notice
        self.notice_unless = notice_unless
        self._on_notice = on_notice
        self._noticed = notice is None
        self.passes_temperature = passes_temperature
        self.max_image_pixels = max_image_pixels
        self.sampling = replace(sampling, seed=seed if sampling.seed is None else sampling.seed)
        self._decomposer = Decomposer(
            decompose_judge or judge, self.template, self.sampling, max_tries=max_tries, seed=seed
        )

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        passes: int = 1,
        max_tries: int = 3,
        seed: int = 0,
        template: str | Path | PromptTemplate | None = None,
        **judge_kwargs: Any,
    ) -> Verifier:
        """A verifier from weights: "embedded", a folder, or a hub id.

        What `verifier_config.json` beside the weights says is used; without one, the model is asked with the
        default template.

        Args:
            name: of the model.
            passes: as for the class.
            max_tries: likewise.
            seed: likewise.
            template: instead of the model's own.
            judge_kwargs: passed on to `TransformersJudge`, e.g. `device`, `dtype`, `batch_size`.

        Raises:
            ModelError: if the model cannot be found or loaded.
            ConfigError: if its config cannot be understood.
        """
        from editr1.judges import TransformersJudge
        from editr1.judges.names import resolve_model

        model = resolve_model(name)
        path = find_config(model, judge_kwargs.get("revision"))
        config = VerifierConfig() if path is None else VerifierConfig.read(path)
        return cls(
            TransformersJudge(str(name), **judge_kwargs),
            template=template or config.load_template(path.parent if path else None),
            passes=passes,
            sampling=Sampling(max_tokens=config.max_tokens, temperature=config.temperature),
            max_tries=max_tries,
            seed=seed,
            notice=config.notice,
            notice_unless=config.notice_unless,
            passes_temperature=config.passes_temperature,
        )

    def save_config(self, folder: str | Path) -> Path:
        """Write `verifier_config.json`, and a template of one's own, beside a model's weights."""
        config = VerifierConfig(
            max_tokens=self.sampling.max_tokens,
            temperature=self.sampling.temperature,
            passes_temperature=self.passes_temperature,
            notice=self.notice,
            notice_unless=self.notice_unless,
        )
        return config.write(Path(folder), self.template)

    def score(
        self,
        source: ImageLike,
        edited: ImageLike,
        instruction: str,
        principles: Principles | None = None,
        id: str | None = None,
    ) -> EditVerdict:
        """Judge one edit.

        Args:
            source: the picture before.
            edited: the picture after; it is brought to the source's size.
            instruction: what was to be done.
            principles: what to check; found by `decompose` if None.
            id: comes back in the verdict.

        Returns:
            The verdict; a judge that failed gives one with another status than ok, and without a score.

        Raises:
            ImageError: if a picture cannot be used.
            DataError: if the instruction or the principles are empty or malformed.
            JudgeError: if the judge as a whole cannot work.
        """
        item = {"id": id, "source": source, "edited": edited, "instruction": instruction, "principles": principles}
        verdicts: list[EditVerdict] = []
        self._judge([Loader(self.max_image_pixels).job(0, item)], lambda _, verdict: verdicts.append(verdict))
        return verdicts[0]

    def score_many(
        self, items: Iterable[Item], *, on_verdict: OnVerdict | None = None, progress: bool = False
    ) -> list[EditVerdict]:
        """Judge many edits: same length, same order.

        Each distinct context, that is source and instruction, is split into principles once; its first verdict
        carries the cost. Candidates of one context stand next to each other in the judge's call, so that engines
        can share their prefix.

        Args:
            items: quadruples, or mappings with `source`, `edited`, `instruction`, and `id` and `principles` if
                wanted.
            on_verdict: called as `on_verdict(index, verdict)` as soon as an item is finished, while others are under
                way: what it kept is safe whatever happens then.
            progress: show a bar on stderr.

        Returns:
            The verdicts. Bad input and a judge's failure are verdicts with another status than ok.

        Raises:
            JudgeError: if the judge as a whole cannot work.
        """
        items = list(items)
        verdicts: dict[int, EditVerdict] = {}
        with _progress_bar(len(items), shown=progress) as advance:

            def finish(index: int, verdict: EditVerdict) -> None:
                verdicts[index] = verdict
                advance()
                if on_verdict is not None:
                    on_verdict(index, verdict)

            for jobs in self._chunks(items, finish):
                self._judge(jobs, finish)
        return [verdicts[index] for index in range(len(items))]

    def decompose(self, source: ImageLike, instruction: str) -> tuple[Principle, ...]:
        """The principles of one context (section 3.1).

        Raises:
            ImageError, DataError: if the input cannot be used.
            DecomposeError: if the judge gave none.
            JudgeError: if the judge as a whole cannot work.
        """
        context, _ = Loader(self.max_image_pixels).context(source, instruction)
        self._give_notice([context])
        split = self._decomposer([context])[context.key]
        if split.principles is None:
            raise DecomposeError(f"no principles from {self._decomposer.judge.name}: {split.error}")
        return split.principles

    def decompose_many(self, tasks: Iterable[EditTask | Mapping[str, Any]]) -> list[Decomposition]:
        """The principles of many contexts: same length, same order; a failure is an entry with its status.

        Args:
            tasks: tasks, or mappings with `source` and `instruction`; principles that they have are not looked at.

        Raises:
            JudgeError: if the judge as a whole cannot work.
        """
        loader = Loader(self.max_image_pixels)
        results: list[Decomposition | Context] = []
        for task in tasks:
            try:
                data = fields_of(task, ("source", "instruction"))
                results.append(loader.context(data["source"], data["instruction"])[0])
            except (ImageError, DataError) as exc:
                results.append(Decomposition(VerdictStatus.ERROR, error=str(exc)))
        contexts = [c for c in results if isinstance(c, Context)]
        self._give_notice(contexts)
        splits = self._decomposer(contexts)
        return [splits[r.key] if isinstance(r, Context) else r for r in results]

    def _chunks(self, items: Sequence[Item], finish: OnVerdict) -> Iterator[list[Job]]:
        """The items with their pictures loaded, as many at a time as memory should hold."""
        jobs: list[Job] = []
        loader, pixels = Loader(self.max_image_pixels), 0
        for index, item in enumerate(items):
            try:
                job = loader.job(index, item)
            except (ImageError, DataError) as exc:
                finish(index, self._failure(VerdictStatus.ERROR, str(exc), id_of(item)))
                continue
            jobs.append(job)
            pixels += 2 * job.edited.width * job.edited.height
            if len(jobs) >= _CHUNK_ITEMS or pixels >= _CHUNK_PIXELS:
                yield jobs
                jobs, loader, pixels = [], Loader(self.max_image_pixels), 0
        if jobs:
            yield jobs

    def _give_notice(self, contexts: Iterable[Context]) -> None:
        """Say once what the judge does not know, when it is shown a picture that it may not know."""
        if not self._noticed and any(c.source.size != self.notice_unless for c in contexts):
            self._noticed = True
            self._on_notice(str(self.notice))

    def _judge(self, jobs: Sequence[Job], finish: OnVerdict) -> None:
        """Bring all jobs to a verdict."""
        self._give_notice(job.context for job in jobs)
        asked = _grouped(self._with_principles(jobs, finish))
        asks = [self._ask(job, number) for job in asked for number in range(self.passes)]
        passes: list[dict[int, EditVerdict]] = [{} for _ in asked]

        def on_outcome(index: int, outcome: Outcome[EditVerdict]) -> None:
            place, number = divmod(index, self.passes)
            passes[place][number] = self._verdict(outcome)
            if len(passes[place]) == self.passes:
                verdict = combine([passes[place][n] for n in range(self.passes)])
                finish(asked[place].index, self._final(asked[place], verdict))

        ask(self.judge, asks, max_tries=self.max_tries, on_outcome=on_outcome)

    def _with_principles(self, jobs: Sequence[Job], finish: OnVerdict) -> list[Job]:
        """The jobs that can be judged; those whose principles cannot be found are finished as failures."""
        lacking = [job for job in jobs if job.principles is None]
        splits = self._decomposer([job.context for job in lacking])
        charged: set[str] = set()
        for job in lacking:
            split = splits[key := job.context.key]
            job.charge(replace(split, usage=Usage(), seconds=0.0) if key in charged else split)
            charged.add(key)
            if not split.ok:
                failure = self._failure(split.status, f"the instruction could not be decomposed: {split.error}")
                finish(job.index, self._final(job, failure))
        return [job for job in jobs if job.principles is not None]

    def _ask(self, job: Job, number: int) -> Ask[EditVerdict]:
        """One pass over an edit."""
        principles = job.principles or ()
        context = job.context
        messages = render_score(self.template, context.source, job.edited, context.instruction, principles)
        sampling = self.sampling
        if self.passes > 1 and sampling.temperature == 0:
            sampling = replace(sampling, temperature=self.passes_temperature)

        def read(reply: ChatReply) -> EditVerdict:
            truncated = reply.status is ReplyStatus.TRUNCATED
            return parse_verdict(reply.text, principles, truncated=truncated)

        return Ask(messages, sampling, read, fresh=number, stride=self.passes)

    def _verdict(self, outcome: Outcome[EditVerdict]) -> EditVerdict:
        """One pass as a verdict. A failure keeps what the judge wrote as its reasoning: nothing is lost."""
        verdict = outcome.value or self._failure(outcome.status, outcome.error or "", reasoning=outcome.text)
        return replace(verdict, usage=outcome.usage, seconds=outcome.seconds)

    def _final(self, job: Job, verdict: EditVerdict) -> EditVerdict:
        return replace(
            verdict,
            id=job.id,
            judge=self.judge.name,
            prompt_hash=self.template.hash,
            usage=verdict.usage + job.usage,
            seconds=verdict.seconds + job.seconds,
            preprocessing=job.notes,
        )

    def _failure(self, status: VerdictStatus, error: str, id: str | None = None, *, reasoning: str = "") -> EditVerdict:
        name, prompt = self.judge.name, self.template.hash
        return EditVerdict(status, judge=name, prompt_hash=prompt, id=id, error=error, reasoning=reasoning)


def _grouped(jobs: Sequence[Job]) -> list[Job]:
    """The jobs with those of one context, principles included, next to each other; else in their order."""
    groups: dict[Any, list[Job]] = {}
    for job in jobs:
        groups.setdefault((job.context.digest, job.context.instruction, job.principles), []).append(job)
    return [job for group in groups.values() for job in group]


@contextmanager
def _progress_bar(total: int, *, shown: bool) -> Iterator[Callable[[], None]]:
    """A bar on stderr; yields what moves it on by one."""
    if not shown or total < 2:
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("scoring"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("scoring", total=total)
        yield lambda: bar.advance(task)
