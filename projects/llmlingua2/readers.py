"""Readers that answer questions about compressed texts: a program, a small BERT, a language model."""

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Protocol

import lightning.pytorch as L
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import (
    AutoModelForCausalLM,
    AutoModelForQuestionAnswering,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from common.cli import main, one_seed
from common.data.stream import stream_loader
from common.data.tokenizers import load_tokenizer
from common.hub import from_pretrained
from common.training.schedules import adamw, optimizer_steps
from projects.llmlingua2.compressor import device_of
from projects.llmlingua2.data import Document, Question
from projects.llmlingua2.world import CUES, GOODS, ISSUES, NUMBERS, OUTCOMES, draw

REACH = 12
"""Words behind a thing among which the program looks for what was said of it."""
PASSAGE = 24
"""Words that the BERT reads."""
PROMPT = "Answer the question about the meeting transcript, which may be shortened, in as few words as it takes.\n\
{text}\nQuestion: {question}\nAnswer:"


class Reader(Protocol):
    """Answers questions about texts."""

    def answer(self, texts: Sequence[str], questions: Sequence[str]) -> list[str]:
        """An answer to each question about its text; empty where the reader finds none."""
        ...


class Parser:
    """Reads the world of meetings word by word: exactly what is said, nothing else.

    The answer is the first number (or outcome) behind the thing, unless a word of correction and another one follow.
    """

    def answer(self, texts: Sequence[str], questions: Sequence[str]) -> list[str]:
        return [self._find(text.split(), *question.split()) for text, question in zip(texts, questions, strict=True)]

    def _find(self, words: list[str], kind: str, thing: str) -> str:
        if thing not in words:
            return ""
        values = {*NUMBERS} if kind == "price" else {*OUTCOMES}
        found, corrected = "", False
        for word in words[words.index(thing) + 1 :][:REACH]:
            if word in GOODS or word in ISSUES:
                break
            if word in values and (not found or corrected):
                found, corrected = word, False
            elif found and word in CUES:
                corrected = True
            elif found and not corrected:
                break
        return found


class SpanReader:
    """A BERT that looks up what is asked about, reads on from there, and points at the answer.

    Args:
        folder: net and tokenizer, as `ReaderTraining` leaves them.
        batch_size: questions that are answered together.
    """

    def __init__(self, folder: str, batch_size: int = 256):
        self.device = device_of(None)
        self.net = from_pretrained(AutoModelForQuestionAnswering, folder).to(self.device).eval()
        self.tokenizer = load_tokenizer(folder)
        self.batch = batch_size

    @torch.inference_mode()
    def answer(self, texts: Sequence[str], questions: Sequence[str]) -> list[str]:
        passages = [passage(text, question) for text, question in zip(texts, questions, strict=True)]
        found = [""] * len(texts)
        asked = [k for k, text in enumerate(passages) if text]
        for start in range(0, len(asked), self.batch):
            part = asked[start : start + self.batch]
            coded = encode(self.tokenizer, [questions[k] for k in part], [passages[k] for k in part])
            places, inside = coded.pop("offset_mapping"), coded["token_type_ids"].bool()
            out = self.net(**{name: value.to(self.device) for name, value in coded.items()})
            inside &= places[..., 1] > 0
            # the best token: answers of the world are single words
            best = (out.start_logits + out.end_logits).cpu().masked_fill(~inside, -torch.inf).argmax(-1)
            for k, (begin, end) in zip(part, places[torch.arange(len(best)), best].tolist(), strict=True):
                found[k] = passages[k][begin:end]
        return found


class ChatReader:
    """A causal language model that completes a prompt greedily; what it writes after the first line is left out.

    Args:
        model: hub id or folder.
        tokens: longest answer.
        window: the longest prompt, in tokens; of a longer text the beginning is read.
        batch_size: prompts that are answered together.
    """

    def __init__(self, model: str, tokens: int = 100, window: int = 8000, batch_size: int = 4):
        self.device = device_of(None)
        self.tokenizer = from_pretrained(AutoTokenizer, model, padding_side="left")
        self.tokenizer.pad_token = self.tokenizer.pad_token or self.tokenizer.eos_token
        dtype = torch.float32 if self.device.type == "cpu" else torch.bfloat16
        self.net = from_pretrained(AutoModelForCausalLM, model, dtype=dtype).to(self.device).eval()
        self.tokens, self.window, self.batch = tokens, window, batch_size

    @torch.inference_mode()
    def answer(self, texts: Sequence[str], questions: Sequence[str]) -> list[str]:
        found: list[str] = []
        for start in range(0, len(texts), self.batch):
            part = slice(start, start + self.batch)
            prompts = []
            for text, question in zip(texts[part], questions[part], strict=True):
                room = self.window - len(self.tokenizer(PROMPT.format(text="", question=question)).input_ids)
                kept = self.tokenizer(text, add_special_tokens=False, truncation=True, max_length=max(1, room))
                prompts.append(PROMPT.format(text=self.tokenizer.decode(kept.input_ids), question=question))
            coded = self.tokenizer(prompts, return_tensors="pt", padding=True, return_token_type_ids=False)
            tokens = self.net.generate(
                **coded.to(self.device), max_new_tokens=self.tokens, do_sample=False,
                pad_token_id=self.tokenizer.pad_token_id,
            )  # fmt: skip
            written = self.tokenizer.batch_decode(tokens[:, coded.input_ids.shape[1] :], skip_special_tokens=True)
            found += [(text.strip().splitlines() or [""])[0].strip() for text in written]
        return found


def passage(text: str, question: str) -> str:
    """The words of a text from the one that a question ends with; empty where it is not there."""
    words, thing = text.split(), question.split()[-1]
    return " ".join(words[words.index(thing) :][:PASSAGE]) if thing in words else ""


def encode(tokenizer: PreTrainedTokenizerBase, questions: Sequence[str], texts: Sequence[str]) -> dict[str, Tensor]:
    """Questions and passages as one input each, with the places of the tokens."""
    return dict(tokenizer(list(questions), list(texts), padding=True, return_offsets_mapping=True, return_tensors="pt"))


class ReaderTraining(L.LightningModule):
    """Extractive question answering: cross-entropy of the answer's token, as start and as end.

    Args:
        encoder: folder of the pretrained encoder.
        lr: peak learning rate.
        warmup_steps: linear warm-up; a cosine to zero follows.
    """

    run_dir: Path

    def __init__(self, encoder: str, lr: float = 2e-3, warmup_steps: int = 50):
        super().__init__()
        self.net = from_pretrained(AutoModelForQuestionAnswering, encoder)
        self.tokenizer = load_tokenizer(encoder)
        self.lr, self.warmup_steps = lr, warmup_steps

    def training_step(self, batch: list[tuple[str, Question, int]], batch_idx: int) -> Tensor:
        coded = encode(self.tokenizer, [q.text for _, q, _ in batch], [text for text, _, _ in batch])
        places = coded.pop("offset_mapping")
        wanted = torch.tensor([place for _, _, place in batch])[:, None]
        here = coded["token_type_ids"].bool() & (places[..., 0] == wanted) & (places[..., 1] > wanted)
        target = here.int().argmax(-1).to(self.device)
        coded = {name: value.to(self.device) for name, value in coded.items()}
        loss = self.net(**coded, start_positions=target, end_positions=target).loss
        self.log("train/loss", loss, batch_size=len(batch))
        return loss

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        steps = optimizer_steps(self.trainer)
        return adamw(self.net.parameters(), self.lr, 0.01, self.warmup_steps, steps)

    def on_train_end(self) -> None:
        if self.trainer.is_global_zero:
            self.net.save_pretrained(self.run_dir / "model")
            self.tokenizer.save_pretrained(self.run_dir / "model")

    def exported(self) -> PreTrainedModel:
        return self.net


class ReadingTask(L.LightningDataModule):
    """Questions about transcripts of both styles from which words were dropped, but not the thing and its answer.

    Args:
        size: transcripts.
        dropped: up to this share of the words, another for every sample.
        batch_size: questions per step.
        seed: order, and what is dropped.
    """

    def __init__(self, size: int = 6000, dropped: float = 0.9, batch_size: int = 64, seed: int = 0):
        super().__init__()
        self.dropped, self.batch_size, self.seed = dropped, batch_size, seed
        self.documents: list[Document] = [
            draw("reports" if k % 2 else "meetings", Random(f"reader {k}")) for k in range(size)
        ]

    def __len__(self) -> int:
        return len(self.documents)

    def draw(self, index: int, rng: np.random.Generator) -> tuple[str, Question, int]:
        """A passage of a shortened text, a question, and the place of its answer."""
        document = self.documents[index]
        question = document.questions[rng.integers(len(document.questions))]
        words = document.text.split()
        thing = words.index(question.text.split()[1])
        answer = words.index(question.answer, thing)
        kept = rng.random(len(words)) >= rng.uniform(0, self.dropped)
        kept[[thing, answer]] = True
        cues = [k for k in range(thing, answer) if words[k] in CUES]
        if cues and rng.random() < 0.5:  # the wrong one and a word of correction, whatever else there is between them
            kept[[cues[0] - 1, int(rng.choice(cues))]] = True
        elif cues:  # the wrong one is gone
            kept[cues[0] - 1] = False
        left = passage(" ".join(word for word, k in zip(words, kept, strict=True) if k), question.text)
        before = [word for word, k in zip(words[thing:answer], kept[thing:answer], strict=True) if k]
        return left, question, len(" ".join(before)) + 1

    def train_dataloader(self) -> DataLoader:
        return stream_loader(self, self.batch_size, self.trainer, self.seed, collate=list)


if __name__ == "__main__":
    main(ReaderTraining, ReadingTask, links=one_seed)
