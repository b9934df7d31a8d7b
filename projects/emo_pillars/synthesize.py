"""A step of the pipeline that makes a data set out of plots: characters, utterances, levels, contexts.

    python -m projects.emo_pillars.synthesize test --config projects/emo_pillars/configs/mini/characters.yaml
    python -m projects.emo_pillars.synthesize test --config projects/emo_pillars/configs/mini/utterances.yaml \\
        --data.source.init_args.path <run of characters>/records.jsonl

Every step leaves `records.jsonl`; from the levels on also `data/` with `train.jsonl`, `dev.jsonl` and
`test.jsonl`, split by plot. What was answered before an interruption is not asked again.
"""

import json
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from difflib import SequenceMatcher
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import lightning.pytorch as L
import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from torch.utils.data import DataLoader

from common.charts import heat_map
from common.cli import main
from common.errors import UserError
from common.training.runs import save_picture
from projects.emo_pillars import prompts
from projects.emo_pillars.language import LanguageModel
from projects.emo_pillars.prompts import MAX_TOKENS, prompt
from projects.emo_pillars.records import FILES, Record, RecordSource, plot_split, read_jsonl
from projects.emo_pillars.taxonomy import GOEMOTIONS, REMAP, mapped, parse_levels, targets

Step = Literal["characters", "utterances", "levels", "contexts"]
COMPARED = 400  # utterances whose similarity is measured
READ = {"characters": "plot", "utterances": "actor", "levels": "utterance", "contexts": "all_emotions"}
"""What a step needs of its records."""


class Batches(L.LightningDataModule):
    """Records in batches.

    Args:
        source: where they come from.
        batch_size: prompts that are answered together, per process.
        share: of the plots whose records are taken, the first ones in a fixed random order (contexts for a third).
        seed: of plots that are made up.
    """

    def __init__(self, source: RecordSource, batch_size: int = 64, share: float = 1.0, seed: int = 0):
        super().__init__()
        self.source, self.batch_size, self.share, self.seed = source, batch_size, share, seed

    def test_dataloader(self) -> DataLoader:
        records = self.source.read(self.seed)
        plots = sorted({str(record["plot_id"]) for record in records})
        random.Random(0).shuffle(plots)
        kept = set(plots[: max(1, round(self.share * len(plots)))])
        taken = [record for record in records if str(record["plot_id"]) in kept]
        return DataLoader(taken, self.batch_size, collate_fn=list)


class Synthesis(L.LightningModule):
    """One step for every record (Shvets 2025, section 3; 1 to 6 are the paper's prompts).

    characters: of a plot (1); those that do not stand in it are left out.
    utterances: of a character, eight with an emotion each and two without (2).
    levels: the five strongest emotions of an utterance, from 0 to 1 (3); words outside the taxonomy are counted.
    contexts: why it was said (4), that without the sentences about emotions (5), and the utterance with its emotion
        hidden (6).

    Args:
        step: which.
        llm: the language model.
        emotions: the taxonomy; none gives the paper's 28.
        shares: of the plots that validation and test have, the rest is to train on.
    """

    def __init__(
        self,
        step: Step,
        llm: LanguageModel,
        emotions: list[str] | None = None,
        shares: tuple[float, float] = (0.1, 0.1),
    ):
        super().__init__()
        self.step, self.llm, self.shares = step, llm, shares
        self.emotions = tuple(emotions or GOEMOTIONS)
        self.run_dir = Path()
        self.work: Callable[[list[Record]], list[list[Record]]] = getattr(self, step)

    def ask(self, task: str, records: Sequence[Record], **sections: str) -> list[str]:
        """Answers about records, whose fields (the values) become the prompt's sections (the keys)."""
        asked = [prompt(task, **{name: str(record[key]) for name, key in sections.items()}) for record in records]
        return self.llm.answers(asked, MAX_TOKENS[task]) if asked else []

    def characters(self, records: list[Record]) -> list[list[Record]]:
        found = []
        for record, answer in zip(records, self.ask("characters", records, plot="plot"), strict=True):
            actors = prompts.names(answer)
            inside = [actor for actor in actors if prompts.grounded(actor, record["plot"])]
            plot = record["plot"] if record.get("told", True) else ""
            found.append(
                [
                    {"id": f"{record['id']}-{k}", "plot_id": record["plot_id"], "plot": plot, "actor": actor}
                    | {"named": len(actors), "grounded": len(inside)}
                    for k, actor in enumerate(inside)
                ]
            )
        return found

    def utterances(self, records: list[Record]) -> list[list[Record]]:
        listed = [record | {"list": ", ".join(self.emotions)} for record in records]
        found = []
        answers = self.ask("utterances", listed, plot="plot", actor="actor", emotions="list")
        for record, answer in zip(records, answers, strict=True):
            said = prompts.utterances(answer, self.emotions)
            found.append(
                [
                    record | {"id": f"{record['id']}-{k}", "utterance": text, "primary_emotion": emotion}
                    for k, (emotion, text) in enumerate(said)
                ]
            )
        return found

    def levels(self, records: list[Record]) -> list[list[Record]]:
        listed = [record | {"list": ", ".join(self.emotions)} for record in records]
        found = []
        for record, answer in zip(
            records, self.ask("levels", listed, emotions="list", utterance="utterance"), strict=True
        ):
            raw = parse_levels(answer)
            found.append(
                [record | {"all_emotions": raw, "all_emotions_mapped": list(mapped(raw, self.emotions).items())}]
            )
        return found

    def contexts(self, records: list[Record]) -> list[list[Record]]:
        records = [
            record | {"strongest": ", ".join(sorted(levels, key=lambda name: -levels[name]))}
            for record in records
            if any(targets(levels := dict(record["all_emotions_mapped"]), self.emotions))
        ]
        sections = {"plot": "plot", "actor": "actor", "utterance": "utterance", "emotions": "strongest"}
        for record, answer in zip(records, self.ask("context", records, **sections), strict=True):
            record["context"] = " ".join(prompts.lines(answer))
        for record, answer in zip(records, self.ask("clean", records, context="context"), strict=True):
            record["clean_context"] = " ".join(prompts.lines(answer))
        sections = {"utterance": "utterance", "context": "clean_context"}
        for record, answer in zip(records, self.ask("rewrite", records, **sections), strict=True):
            record["rewritten"] = " ".join(prompts.lines(answer))
        return [[record] for record in records]

    def on_test_start(self) -> None:
        self.part = self.run_dir / f"part-{self.global_rank}.jsonl"
        self.done = set()
        for file in sorted(self.run_dir.glob("part-*.jsonl")):
            _drop_torn_line(file)
            self.done |= {line["done"] for line in read_jsonl(file) if "done" in line}

    def test_step(self, batch: list[Record], batch_idx: int) -> None:
        if lacking := [record for record in batch if READ[self.step] not in record]:
            raise UserError(
                f"record {lacking[0].get('id')} has no '{READ[self.step]}': the step '{self.step}' reads what the step "
                "before it has written"
            )
        records = [record for record in batch if record["id"] not in self.done]
        if not records:
            return
        made = self.work([dict(record) for record in records])
        lines = [{"made": record} for made_of in made for record in made_of]
        lines += [{"done": record["id"]} for record in records]  # last: a line that is torn is made again
        with self.part.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))

    def on_test_epoch_end(self) -> None:
        self.trainer.strategy.barrier("all parts are written")
        found: dict[str, Record] = {}
        for file in sorted(self.run_dir.glob("part-*.jsonl")):
            found |= {line["made"]["id"]: line["made"] for line in read_jsonl(file) if "made" in line}
        records = [found[key] for key in sorted(found, key=_natural)]
        if not records:
            raise UserError(f"the step '{self.step}' has made nothing: the model's answers hold no list to read")
        if self.global_rank == 0:
            write_jsonl(self.run_dir / "records.jsonl", records)
            if self.step in ("levels", "contexts"):
                self._split(records)
        for name, value in self.statistics(records).items():
            self.log(f"test/{name}", float(value), rank_zero_only=True)

    def _split(self, records: list[Record]) -> None:
        parts = defaultdict(list)
        for record in records:
            told = {name: value for name, value in record.items() if name not in ("plot", "named", "grounded", "list")}
            parts[record.get("split") or plot_split(record["plot_id"], self.shares)].append(told)
        (self.run_dir / "data").mkdir(exist_ok=True)
        for split, file in FILES.items():
            write_jsonl(self.run_dir / "data" / file, parts[split])

    def statistics(self, records: list[Record]) -> dict[str, float]:
        """What is said of the step's records; see the page of metrics."""
        if self.step == "characters":
            plots = {record["plot_id"]: record for record in records}.values()
            named = sum(record["named"] for record in plots)
            return {"actors": len(records) / len(plots), "invented": 1 - len(records) / named}
        if self.step == "utterances":
            return similarities(records)
        if self.step == "levels":
            return self._graded(records)
        near = [
            SequenceMatcher(None, r["context"], r["clean_context"], autojunk=False).ratio() for r in records[:COMPARED]
        ]
        kept = [
            SequenceMatcher(None, r["utterance"], r["rewritten"], autojunk=False).ratio() for r in records[:COMPARED]
        ]
        return {"context_kept": fmean(near), "utterance_kept": fmean(kept)}

    def _graded(self, records: list[Record]) -> dict[str, float]:
        raw = [name for record in records for name, _ in record["all_emotions"]]
        outside = [name for name in raw if name not in self.emotions]
        lost = [name for name in outside if REMAP.get(name) not in self.emotions]
        counts = dict.fromkeys(self.emotions, 0.0)
        positives = []
        for record in records:
            labels = targets(dict(record["all_emotions_mapped"]), self.emotions)
            positives.append(sum(labels))
            for name, label in zip(self.emotions, labels, strict=True):
                counts[name] += label
        kept = [count for count in positives if count]
        self._draw(counts, len(kept))
        return {
            "outside": len(outside) / max(1, len(raw)),
            "unmapped": len(lost) / max(1, len(raw)),
            "dropped": 1 - len(kept) / len(records),
            "labels": fmean(kept) if kept else 0.0,
            "neutral": counts.get("neutral", 0.0) / max(1, len(kept)),
        }

    def _draw(self, counts: dict[str, float], kept: int) -> None:
        if self.global_rank == 0:
            shares = np.array([[count / max(1, kept)] for count in counts.values()])
            size = (260, 40 + 24 * len(counts))
            chart = heat_map(shares, "", "", "share", columns=["of the utterances"], rows=list(counts), size=size)
            save_picture(self.run_dir, "labels of the synthetic data", chart, "share of the utterances with each label")


def similarities(records: Sequence[Record]) -> dict[str, float]:
    """Mean cosine (TF-IDF) of two utterances of one character and of two characters, for emotional and neutral ones;
    and over all, how repetitive the data are."""
    found = {}
    for kind in ("emotional", "neutral"):
        some = [r for r in records if (r["primary_emotion"] == "neutral") == (kind == "neutral")][:COMPARED]
        if len(some) < 2:
            continue
        rows = TfidfVectorizer(token_pattern=r"\w+").fit_transform([record["utterance"] for record in some])
        near = (rows @ rows.T).toarray()
        actors = [record["id"].rsplit("-", 1)[0] for record in some]
        pairs: dict[bool, list[float]] = {True: [], False: []}
        for i in range(len(some)):
            for j in range(i):
                pairs[actors[i] == actors[j]].append(near[i, j])
        for same, name in ((True, "within"), (False, "across")):
            if pairs[same]:
                found[f"{kind}_{name}"] = fmean(pairs[same])
    return found


def write_jsonl(file: Path, records: Sequence[Record]) -> None:
    """A JSON object a line."""
    file.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")


def _drop_torn_line(file: Path) -> None:
    """Forget a last line that an interruption has left without its end."""
    content = file.read_bytes()
    if not content.endswith(b"\n"):
        file.write_bytes(content[: content.rfind(b"\n") + 1])


def _natural(key: str) -> tuple[Any, ...]:
    """Ids in the order of their numbers."""
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in key.split("-"))


def links(parser: Any) -> None:
    """One seed."""
    parser.link_arguments("seed_everything", "data.seed", compute_fn=int)


if __name__ == "__main__":
    main(Synthesis, Batches, links=links)
