"""Compress documents at several rates, have readers answer questions about what is left, and count.

    python -m projects.llmlingua2.evaluate test --config projects/llmlingua2/configs/mini/base.yaml \\
        --config projects/llmlingua2/configs/mini/evaluate.yaml --model.method llmlingua2 --model.compressor FOLDER
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import lightning.pytorch as L
import numpy as np
import torch
from torch.utils.data import DataLoader

from common.charts import Line, line_chart
from common.cli import main, one_seed
from common.data.text import Split
from common.errors import UserError
from common.evaluators.generation import Answers
from common.training.runs import save_picture
from projects.llmlingua2.annotate import split_words
from projects.llmlingua2.compressor import PromptCompressor
from projects.llmlingua2.data import Document, Documents
from projects.llmlingua2.entropy import Compressor, LLMLingua, SelectiveContext
from projects.llmlingua2.harness.pictures import marked
from projects.llmlingua2.readers import ChatReader, Reader

Method = Literal["llmlingua2", "selective_context", "llmlingua", "random", "teacher", "full"]


class Classifier:
    """LLMLingua-2 as a compressor like the others.

    Args:
        model: hub id or folder of the token classifier.
        forced: words and signs that stay.
        counted_by: whose tokens rates mean, as `PromptCompressor` has it.
    """

    def __init__(self, model: str, forced: Sequence[str], counted_by: str | None):
        self.model, self.forced = PromptCompressor(model, counted_by=counted_by), list(forced)

    def compress(self, texts: Sequence[str], rate: float) -> list[str]:
        found = self.model.compress_prompt_llmlingua2(
            texts, rate=rate, force_tokens=self.forced, drop_consecutive=bool(self.forced)
        )
        return found["compressed_prompt_list"]


class Chance:
    """Any words: the floor."""

    def __init__(self, seed: int):
        self.seed = seed

    def compress(self, texts: Sequence[str], rate: float) -> list[str]:
        found = []
        for k, text in enumerate(texts):
            words = text.split()
            rng = np.random.default_rng((self.seed, k))
            kept = sorted(rng.permutation(len(words))[: round(rate * len(words))])
            found.append(" ".join(words[i] for i in kept))
        return found


class Known:
    """Texts that are given for each text, whatever the rate: the teacher's, or the text itself."""

    def __init__(self, known: dict[str, str]):
        self.known = known

    def compress(self, texts: Sequence[str], rate: float) -> list[str]:
        return [self.known.get(text, text) for text in texts]


def subsequence(short: Sequence[str], whole: Sequence[str]) -> bool:
    """Whether words stand in a text in the same order."""
    rest = iter(whole)
    return all(word in rest for word in short)


class Evaluation(L.LightningModule):
    """What readers still find in compressed documents.

    Metrics, each `<name>_<rate in percent>`: by reader and set of documents exact match (`parser`, `ood_parser`, ...)
    and, of language models, token F1 (`mistral_f1`); `words` is the token F1 with what a perfect teacher leaves, `rate`
    the share of words that is left, `faithful` the share of documents whose words all stand in the original in that
    order. `cpu_seconds` is processor time of this process for compressing 1,000 words, over all rates.

    Args:
        method: what compresses.
        compressor: hub id or folder of its model; none for chance, teacher and full.
        readers: who answers, by name; sets of documents have them all.
        rates: shares of the words, or tokens, that are to stay.
        segment: tokens of LLMLingua's segments.
        sentences: whether LLMLingua's budget controller drops sentences.
        forced: words and signs that LLMLingua-2 keeps.
        counted_by: hub id of the tokenizer in whose tokens LLMLingua-2's rates are meant; None for its own, `words`
            for words.
    """

    run_dir: Path

    def __init__(
        self,
        method: Method,
        readers: dict[str, Reader],
        compressor: str | None = None,
        rates: list[float] = [0.5, 0.33, 0.2],  # noqa: B006  # jsonargparse shows it
        segment: int = 200,
        sentences: bool = False,
        forced: list[str] = [],  # noqa: B006
        counted_by: str | None = None,
    ):
        super().__init__()
        if compressor is None and method in ("llmlingua2", "selective_context", "llmlingua"):
            raise UserError(f"{method} compresses with a model: give model.compressor, a hub id or a folder")
        if not rates or not all(0 < rate <= 1 for rate in rates):
            raise UserError(f"model.rates is {rates}: at least one share above 0 and at most 1 is needed")
        self.method, self.compressor, self.readers, self.rates = method, compressor or "", readers, rates
        self.segment, self.sentences, self.forced, self.counted_by = segment, sentences, forced, counted_by
        self.made: Compressor | None = None
        self.seconds = self.words = 0.0
        self.curves: dict[str, list[float]] = {}

    def test_step(self, batch: tuple[str, Split, Documents, int], batch_idx: int) -> None:
        name, split, source, seed = batch
        documents = source.read(split, seed)
        if not documents:
            return
        texts = [document.text for document in documents]
        essence = [document.essence for document in documents]
        prefix = ("val_" if split == "val" else "") + ("" if name == "own" else f"{name}_")
        compressor = self._compressor(texts, essence, seed)
        for rate in self.rates:
            start = time.process_time()
            short = compressor.compress(texts, rate)
            self.seconds += time.process_time() - start
            self.words += sum(len(text.split()) for text in texts)
            self._measure(prefix, round(100 * rate), documents, short, essence)
        if not prefix:
            self._show(texts[0], compressor)

    def _compressor(self, texts: Sequence[str], essence: Sequence[str | None], seed: int) -> Compressor:
        if self.method == "teacher":
            if any(text is None for text in essence):
                raise UserError("nobody knows what a perfect teacher would leave of these documents: method=teacher")
            return Known(dict(zip(texts, map(str, essence), strict=True)))
        if self.made is None:
            match self.method:
                case "llmlingua2":
                    self.made = Classifier(self.compressor, self.forced, self.counted_by)
                case "selective_context":
                    self.made = SelectiveContext(self.compressor)
                case "llmlingua":
                    self.made = LLMLingua(self.compressor, self.segment, self.sentences)
                case "random":
                    self.made = Chance(seed)
                case _:
                    self.made = Known({})
        return self.made

    def _measure(
        self, prefix: str, percent: int, documents: list[Document], short: list[str], essence: Sequence[str | None]
    ) -> None:
        asked = [(text, q) for text, document in zip(short, documents, strict=True) for q in document.questions]
        right = [[question.answer] for _, question in asked]
        for name, reader in self.readers.items():
            metric = Answers(rouge=False)
            metric.update(reader.answer([text for text, _ in asked], [question.text for _, question in asked]), right)
            found = metric.compute()
            self._log(f"{prefix}{name}_{percent}", found["exact_match"].item())
            if isinstance(reader, ChatReader):
                self._log(f"{prefix}{name}_f1_{percent}", found["f1"].item())
        if prefix.startswith("val_"):
            return
        pairs = [
            ([w.text.lower() for w in split_words(a)], [w.text.lower() for w in split_words(document.text)])
            for a, document in zip(short, documents, strict=True)
        ]
        self._log(f"{prefix}rate_{percent}", float(np.mean([len(a) / len(b) for a, b in pairs])))
        self._log(f"{prefix}faithful_{percent}", float(np.mean([subsequence(a, b) for a, b in pairs])))
        if all(text is not None for text in essence):
            words = Answers(rouge=False)
            words.update(short, [[str(text)] for text in essence])
            self._log(f"{prefix}words_{percent}", words.compute()["f1"].item())

    def _log(self, name: str, value: float) -> None:
        self.log(f"test/{name}", value, batch_size=1)
        self.curves.setdefault(name.rpartition("_")[0], []).append(value)

    def _show(self, text: str, compressor: Compressor) -> None:
        """A document with what is dropped from it in grey."""
        for rate in self.rates:
            (short,) = compressor.compress([text], rate)
            caption = f"A document at rate {rate:g}: what stays, and in grey what is dropped"
            save_picture(self.run_dir, f"document, rate {rate:g}", marked(text, short), caption)

    def on_test_end(self) -> None:
        self.trainer.callback_metrics["test/cpu_seconds"] = torch.tensor(1000 * self.seconds / max(1.0, self.words))
        lines = [
            Line(self.rates, self.curves[name], name, dots=True)
            for name in self.curves
            if name.removeprefix("ood_") in self.readers
        ]
        if len(self.rates) > 1:
            chart = line_chart(lines, "rate", "exact match", self.method, limits=(-0.03, 1.03))
            save_picture(self.run_dir, "answers by rate", chart, "Exact match by reader and by set of documents")


class EvaluationData(L.LightningDataModule):
    """Sets of documents, each as one batch for testing and one for validation.

    Args:
        documents: by name; `own` are of the kind that was trained on.
        seed: of worlds' documents, which are others for every seed.
    """

    def __init__(self, documents: dict[str, Documents], seed: int = 0):
        super().__init__()
        if "own" not in documents:
            raise UserError("data.documents needs a set named own")
        self.documents, self.seed = documents, seed

    def test_dataloader(self) -> DataLoader:
        parts = [
            (name, split, source, self.seed) for split in ("test", "val") for name, source in self.documents.items()
        ]
        return DataLoader(parts, batch_size=None)  # type: ignore[arg-type]


if __name__ == "__main__":
    main(Evaluation, EvaluationData, links=one_seed)
