"""The workshop: what a recipe names, made: source, judges, editors, prompts, and the stages bound to them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from editr1.curation import shards
from editr1.curation.choose import choose_traces
from editr1.curation.decompose import decompose
from editr1.curation.edit import Editor, KeptEdits, edit
from editr1.curation.editors import DiffusersEditor, FolderEditor, ServerEditor, TrainedEditor
from editr1.curation.journal import JournaledJudge, Spent, Streak
from editr1.curation.prompts import load_prompt, load_variants
from editr1.curation.recipe import CurationJudge, CurationRecipe, EditorRecipe
from editr1.curation.records import Context, StageResult, content_id
from editr1.curation.select import filter_hard
from editr1.curation.stickers import StickerContexts, StickerEditor, StickerIndex, StickerJudge
from editr1.curation.trace import Ways, trace
from editr1.curation.verify import verify
from editr1.datasets.contexts import SOURCES, ContextSource
from editr1.errors import ConfigError, DataError
from editr1.judges.base import Judge, ReplyStatus, Sampling
from editr1.judges.build import build_judge
from editr1.verifier.modes import mode_template
from editr1.verifier.score import Verifier
from editr1.verifier.template import PromptTemplate, load_template

STAGES = tuple(shards.COLUMNS)
"""select, decompose, edit, trace, verify, choose."""

_FORMAT = 1
"""Raised when the same recipe would give other records: work of older code is then made anew."""

JudgeBuilder = Callable[[CurationJudge, str, "Workshop"], Judge]
"""From a judge's settings and the stage that it serves to the judge."""


@dataclass(frozen=True, slots=True)
class Done:
    """A stage's work on one shard: what it made, and what its judges took, by name."""

    result: StageResult[Any]
    spent: dict[str, Spent]


class Workshop:
    """Everything that a recipe names; judges and editors are made when their stage first needs them.

    Args:
        recipe: of the run.
        journals: the folder where finished calls and edits lie.
        build: how judges are made.
        retry_failed: ask again what timed out before.
    """

    def __init__(
        self, recipe: CurationRecipe, journals: Path, *, build: JudgeBuilder | None = None, retry_failed: bool = False
    ) -> None:
        self.recipe = recipe
        self.journals = journals
        self.build = build or build_curation_judge
        self.forget = frozenset({ReplyStatus.TIMEOUT}) if retry_failed else frozenset()
        self._judges: dict[tuple[str, str], Judge] = {}
        self._streaks: dict[str, Streak] = {}
        self.template: PromptTemplate = load_template(recipe.template)
        self.select_prompt = load_prompt("select", recipe.select.prompt)
        self.verify_prompt = load_prompt("verify", recipe.verify.prompt)
        self.variants = load_variants(recipe.trace.variants, recipe.trace.variants_file)

    @cached_property
    def source(self) -> ContextSource:
        """Where contexts come from."""
        settings = self.recipe.source
        if settings.kind == "stickers":
            return StickerContexts(settings.split, settings.count)
        return SOURCES[settings.kind](settings.path or "")

    @cached_property
    def editors(self) -> list[tuple[Editor, int]]:
        """Each editor, and how many candidates it makes of a context."""
        made = [(EDITOR_KINDS[e.kind](e), e.samples) for e in self.recipe.edit.editors]
        names = [editor.name for editor, _ in made]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ConfigError(f"two editors are called {twice!r}: raise 'samples' of one instead")
        return made

    @cached_property
    def sticker_index(self) -> StickerIndex:
        """How simulated judges know the truth.

        Raises:
            ConfigError: if contexts are no stickers.
        """
        source = self.recipe.source
        if source.kind != "stickers":
            raise ConfigError(
                f"simulated judges know stickers only, and contexts come from {source.kind!r}: name a model"
            )
        editors = [(e.model, e.samples) for e in self.recipe.edit.editors if e.kind == "stickers"]
        reads = any(e.kind != "stickers" for e in self.recipe.edit.editors)
        return StickerIndex(source.split, source.count, editors, reads=reads)

    def judge(self, settings: CurationJudge, role: str) -> Judge:
        """The judge that settings describe; one that serves several stages is made once."""
        key = (settings.model_dump_json(), role if settings.simulated else "")
        if key not in self._judges:
            self._judges[key] = self.build(settings, role, self)
        return self._judges[key]

    def judges(self, stage: str) -> list[tuple[CurationJudge, Judge]]:
        """The judges of a stage with their settings; none for stages without."""
        recipe = self.recipe
        settings: Sequence[CurationJudge] = ()
        if stage == "select" and recipe.select.hard:
            settings = (recipe.select.judge,)
        elif stage in ("decompose", "verify"):
            settings = (getattr(recipe, stage).judge,)
        elif stage == "trace":
            settings = recipe.trace.judges
        return [(s, self.judge(s, stage)) for s in settings]

    def check(self) -> None:
        """Find what is wrong with the recipe before work begins; models that run in this process are not loaded.

        Raises:
            ConfigError, DataError, JudgeError: for a source, judge, editor or mode that cannot be had.
        """
        if not len(self.source):
            raise DataError(f"{self.source.name} holds no contexts")
        recipe = self.recipe
        judges = [("decompose", recipe.decompose.judge), ("verify", recipe.verify.judge)]
        judges += [("trace", settings) for settings in recipe.trace.judges]
        judges += [("select", recipe.select.judge)] if recipe.select.hard else []
        for role, settings in judges:
            if settings.simulated is not None or settings.resolved_kind == "openai":
                self.judge(settings, role)
        if len(set(recipe.trace.judges)) < len(recipe.trace.judges):
            raise ConfigError("a judge is named twice for the pool: raise 'trace.samples' instead")
        for mode in recipe.export.modes:
            mode_template(self.template, mode)
        _ = self.editors

    def fingerprint(self, stage: str) -> str:
        """A hash of everything of the recipe that the stage's records depend on, the stages before left out."""
        recipe, judges = self.recipe, [judge.fingerprint for _, judge in self.judges(stage)]
        parts: dict[str, Any] = {
            "select": lambda: [
                self.source.fingerprint,
                recipe.select.random,
                recipe.select.hard,
                recipe.shard_size,
                [self.select_prompt.hash, recipe.select.max_tokens] if recipe.select.hard else [],
            ],
            "decompose": lambda: [self.template.hash, recipe.decompose.max_tokens],
            "edit": lambda: [[editor.name, editor.fingerprint, samples] for editor, samples in self.editors],
            "trace": lambda: [
                self.template.hash,
                self.variants,
                recipe.trace.temperatures,
                recipe.trace.samples,
                recipe.trace.max_tokens,
                recipe.trace.max_tries,
            ],
            "verify": lambda: [
                self.verify_prompt.hash,
                recipe.verify.max_hints,
                recipe.verify.max_tokens,
                recipe.verify.temperature,
            ],
            "choose": lambda: [recipe.export.least_accuracy, recipe.export.keep_all_met],
            "export": lambda: [
                [mode, mode_template(self.template, mode).hash] for mode in recipe.export.modes
            ] + [recipe.export.holdout],
        }  # fmt: skip
        seed = [] if stage in ("choose", "export") else [recipe.seed, recipe.max_tries]
        return content_id(_FORMAT, stage, judges, parts[stage](), seed)

    def prompts(self, stage: str) -> dict[str, str]:
        """Names and hashes of the prompts that a stage uses."""
        if stage == "select":
            return {self.select_prompt.name: self.select_prompt.hash} if self.recipe.select.hard else {}
        if stage == "verify":
            return {self.verify_prompt.name: self.verify_prompt.hash}
        if stage == "trace":
            return {self.template.name: self.template.hash, **{n: content_id(t)[:12] for n, t in self.variants.items()}}
        return {self.template.name: self.template.hash} if stage == "decompose" else {}

    def filter_batch(self, name: str, contexts: Sequence[Context]) -> Done:
        """The hard filter on one batch of contexts."""
        recipe, (judge,) = self.recipe, self._journaled("select", name)
        sampling = Sampling(recipe.select.max_tokens, seed=recipe.seed)
        result = filter_hard(
            contexts, judge=judge, prompt=self.select_prompt, sampling=sampling, max_tries=recipe.max_tries
        )
        return Done(result, {judge.name: judge.spent})

    def process(self, stage: str, records: Sequence[Any], name: str, *, former: Sequence[Path] = ()) -> Done:
        """A stage's work on the records of one shard.

        Args:
            stage: after "select".
            records: of the stage before.
            name: of the shard: where its journals lie.
            former: other files of this stage for the same shard, whose edits need not be made again.

        Raises:
            JudgeError, ModelError: if a judge or editor cannot work; what was finished is kept.
        """
        judges = self._journaled(stage, name)
        result = _PROCESS[stage](self, records, judges, name, former)
        spent: dict[str, Spent] = {}
        for judge in judges:
            spent[judge.name] = spent.get(judge.name, Spent())
            spent[judge.name] += judge.spent
        return Done(result, spent)

    def note_written(self, stage: str, file: Path) -> None:
        """Remember a stage's file for as long as one of its judges may turn out to have been gone."""
        for _, judge in self.judges(stage):
            streak = self._streaks.get(judge.fingerprint)
            if streak is not None and streak.errors:
                streak.files.append(file)

    def kept_edits(self, name: str, former: Sequence[Path] = ()) -> KeptEdits:
        """Finished edits of a shard."""

        def read() -> Mapping[str, bytes]:
            rows = (row for path in former for row in shards.read_rows(path, ["job", "edited"]))
            return {row["job"]: row["edited"]["bytes"] for row in rows}

        return KeptEdits(self.journals / "edit" / name, read)

    def _journaled(self, stage: str, name: str) -> list[JournaledJudge]:
        judges: list[JournaledJudge] = []
        for _, judge in self.judges(stage):
            if judge.fingerprint in [other.fingerprint for other in judges]:
                raise ConfigError(f"the judge {judge.name!r} is named twice for {stage}: raise 'samples' instead")
            plain = re.sub(r"[^\w.-]+", "_", judge.name)[:60]
            file = f"{plain}-{content_id(judge.fingerprint)[:8]}.jsonl"
            streak = self._streaks.setdefault(judge.fingerprint, Streak())
            path = self.journals / stage / name / file
            judges.append(JournaledJudge(judge, path, forget=self.forget, streak=streak))
        return judges

    def _decompose(self, records: Sequence[Any], judges: Sequence[Judge], name: str, former: Any) -> StageResult[Any]:
        recipe = self.recipe
        verifier = Verifier(
            judges[0],
            template=self.template,
            sampling=Sampling(recipe.decompose.max_tokens),
            max_tries=recipe.max_tries,
            seed=recipe.seed,
        )
        return decompose(records, verifier=verifier, fingerprint=self.fingerprint("decompose"))

    def _edit(
        self, records: Sequence[Any], judges: Sequence[Judge], name: str, former: Sequence[Path]
    ) -> StageResult[Any]:
        return edit(records, editors=self.editors, seed=self.recipe.seed, keep=self.kept_edits(name, former))

    def _trace(self, records: Sequence[Any], judges: Sequence[Judge], name: str, former: Any) -> StageResult[Any]:
        settings = self.recipe.trace
        ways = Ways(
            template=self.template,
            variants=self.variants,
            temperatures=settings.temperatures,
            samples=settings.samples,
            sampling=Sampling(settings.max_tokens, seed=self.recipe.seed),
            max_tries=settings.max_tries,
        )
        return trace(records, judges=judges, ways=ways, fingerprint=self.fingerprint("trace"))

    def _verify(self, records: Sequence[Any], judges: Sequence[Judge], name: str, former: Any) -> StageResult[Any]:
        settings = self.recipe.verify
        return verify(
            records,
            judge=judges[0],
            prompt=self.verify_prompt,
            sampling=Sampling(settings.max_tokens, settings.temperature, seed=self.recipe.seed),
            max_tries=self.recipe.max_tries,
            max_hints=settings.max_hints,
            fingerprint=self.fingerprint("verify"),
        )

    def _choose(self, records: Sequence[Any], judges: Sequence[Judge], name: str, former: Any) -> StageResult[Any]:
        export = self.recipe.export
        return choose_traces(records, least_accuracy=export.least_accuracy, keep_all_met=export.keep_all_met)


_PROCESS: dict[str, Callable[[Workshop, Sequence[Any], Sequence[Judge], str, Sequence[Path]], StageResult[Any]]] = {
    "decompose": Workshop._decompose,
    "edit": Workshop._edit,
    "trace": Workshop._trace,
    "verify": Workshop._verify,
    "choose": Workshop._choose,
}


def build_curation_judge(settings: CurationJudge, role: str, workshop: Workshop) -> Judge:
    """The judge that a recipe names: simulated, or any that `build_judge` makes.

    Raises:
        ConfigError, JudgeError, ModelError, MissingExtraError: if it cannot be set up.
    """
    if settings.simulated is not None:
        echo = workshop.template.echo_question
        return StickerJudge(settings.simulated, role, workshop.sticker_index, echo_question=echo)
    return build_judge(
        settings.resolved_kind,
        settings.model,
        base_url=settings.base_url,
        api_key_env=settings.api_key_env,
        concurrency=settings.concurrency,
        timeout=settings.timeout,
        cache_dir=settings.cache_dir,
        device=settings.device,
        dtype=settings.dtype,
    )


def _server(e: EditorRecipe) -> Editor:
    return ServerEditor(
        e.model,
        base_url=e.base_url,
        api_key_env=e.api_key_env,
        concurrency=e.concurrency,
        timeout=e.timeout,
        arguments=e.arguments,
        send_seed=e.send_seed,
    )


def _trained(e: EditorRecipe) -> Editor:
    return TrainedEditor(e.model, lora=e.lora, steps=e.steps, batch_size=e.batch_size, device=e.device)


EDITOR_KINDS: dict[str, Callable[[EditorRecipe], Editor]] = {
    "stickers": lambda e: StickerEditor(e.model),
    "folder": lambda e: FolderEditor(e.model, pattern=e.pattern),
    "server": _server,
    "editr1": _trained,
    "diffusers": lambda e: DiffusersEditor(e.model, arguments=e.arguments, dtype=e.dtype, device=e.device),
}
"""Editors by the kind that a recipe names."""
