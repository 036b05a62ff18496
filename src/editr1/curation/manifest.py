"""What a run has done, for people and programs: counts, rejects by reason, prompts, tokens, seconds, cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from editr1.curation.journal import Spent
from editr1.curation.recipe import CurationRecipe
from editr1.curation.workshop import STAGES, Workshop


@dataclass(slots=True)
class StageSummary:
    """What a stage did over all shards, former runs included.

    Attributes:
        inputs, outputs: records that came in and that were handed on.
        rejects: records that were not handed on, by kind; `reject_rows` has each with its reason.
        failures: failed parts of records that were handed on, by kind, e.g. traces without a verdict.
        spent: what each judge took.
        seconds: that the shards took, former runs included; of workers side by side, added up. What a killed run spent
            on a shard that it did not finish is not in it.
        wall_seconds: by the clock, of this run alone.
    """

    stage: str
    shards: int = 0
    inputs: int = 0
    outputs: int = 0
    rejects: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    spent: dict[str, Spent] = field(default_factory=dict)
    seconds: float = 0.0
    wall_seconds: float = 0.0
    reject_rows: list[dict[str, str]] = field(default_factory=list)

    @classmethod
    def of_select(cls, plan: Mapping[str, Any], shards: int) -> StageSummary:
        """From the plan of a selection."""
        summary = cls("select", shards, inputs=plan["looked_at"], outputs=len(plan["picks"]))
        summary.seconds = plan.get("seconds", 0.0)
        summary._take(plan)
        return summary

    def _take(self, data: Mapping[str, Any]) -> None:
        self.rejects.update(reject["kind"] for reject in data["rejects"])
        self.reject_rows += data["rejects"]
        for name, spent in data["spent"].items():
            self.spent[name] = self.spent.get(name, Spent())
            self.spent[name] += Spent.from_dict(spent)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, without the single rejects."""
        return {
            "shards": self.shards,
            "in": self.inputs,
            "out": self.outputs,
            "rejects": dict(sorted(self.rejects.items())),
            "failures": dict(sorted(self.failures.items())),
            "judges": {name: spent.to_dict() for name, spent in sorted(self.spent.items())},
            "seconds": round(self.seconds, 2),
            "wall_seconds_of_this_run": round(self.wall_seconds, 2),
        }


def summarize(stage: str, metas: Iterable[Mapping[str, Any]]) -> StageSummary:
    """A stage's summary from what its files say of themselves."""
    summary = StageSummary(stage)
    for meta in metas:
        summary.shards += 1
        summary.inputs += meta["in"]
        summary.outputs += meta["out"]
        summary.failures.update(meta["failures"])
        summary.seconds += meta.get("seconds", 0.0)  # files of former versions say nothing
        summary._take(meta)
    return summary


def manifest(
    recipe: CurationRecipe, workshop: Workshop, stages: Mapping[str, StageSummary], rows: Mapping[str, int]
) -> dict[str, Any]:
    """The content of `manifest.json`; code revision, packages and machine are in `environment.json` beside it."""
    data: dict[str, Any] = {
        "name": recipe.name,
        "seed": recipe.seed,
        "source": workshop.source.name,
        "rows": dict(rows),
    }
    total = 0.0
    for stage in STAGES:
        entry = stages[stage].to_dict()
        entry["fingerprint"] = workshop.fingerprint(stage)
        entry["prompts"] = workshop.prompts(stage)
        for settings, judge in workshop.judges(stage):
            if (spent := stages[stage].spent.get(judge.name)) is not None:
                price = _cost(spent, settings.prompt_price, settings.completion_price)
                entry["judges"][judge.name] |= {"fingerprint": judge.fingerprint, "cost": round(price, 4)}
                total += price
        data[stage] = entry
    data["edit"]["editors"] = {editor.name: editor.fingerprint for editor, _ in workshop.editors}
    data["cost"] = round(total, 4)
    return data


def card(
    recipe: CurationRecipe, workshop: Workshop, stages: Mapping[str, StageSummary], rows: Mapping[str, int]
) -> str:
    """The data set's card: a function of what is in the export, so that equal runs give equal cards."""
    judges = {s: ", ".join(judge.name for _, judge in workshop.judges(s)) or "none" for s in STAGES}
    editors = ", ".join(f"{editor.name} x {samples}" for editor, samples in workshop.editors)
    lines = [
        "---",
        "configs:",
        "- config_name: default",
        "  data_files:",
        *(
            line
            for split in rows
            if rows[split]
            for line in (f"  - split: {split}", f"    path: data/{split}-*.parquet")
        ),
        "---",
        f"# {recipe.name}: reasoning traces on image edits",
        "",
        "Made by `editr1 curate`: contexts selected, split into principles, edited, judged by a pool, verified by a "
        "strict judge, and the best trace of each edit chosen by rule (Edit-R1, section 4).",
        "",
        f"- contexts from {workshop.source.name}, seed {recipe.seed}; mind the licence of that source",
        f"- hard filter: {judges['select']}; principles: {judges['decompose']}",
        f"- editors: {editors}",
        f"- traces: {judges['trace']}; variants {', '.join(workshop.variants)}; temperatures "
        f"{', '.join(str(t) for t in recipe.trace.temperatures)}; {recipe.trace.samples} each",
        f"- gold: {judges['verify']}",
        "",
        "| stage | in | out | rejected |",
        "|---|---|---|---|",
        *(_card_row(stages[stage]) for stage in STAGES),
        "",
        f"Rows: {', '.join(f'{split} {count}' for split, count in rows.items())}.",
        "",
    ]
    if recipe.source.kind == "stickers":
        lines += ["Everything here is simulated: pictures, editors, judges. None of it is human or model data.", ""]
    return "\n".join(lines)


def _card_row(summary: StageSummary) -> str:
    rejected = ", ".join(f"{count} {kind}" for kind, count in sorted(summary.rejects.items())) or "none"
    return f"| {summary.stage} | {summary.inputs} | {summary.outputs} | {rejected} |"


def _cost(spent: Spent, prompt_price: float, completion_price: float) -> float:
    return (spent.prompt_tokens * prompt_price + spent.completion_tokens * completion_price) / 1e6
