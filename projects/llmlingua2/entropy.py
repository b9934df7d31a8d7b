"""The baselines: what a causal language model finds surprising stays, whatever it says.

- `SelectiveContext` (Li et al. 2023): of all words those with the highest self-information.
- `LLMLingua` (Jiang et al. 2023): a budget controller may drop whole sentences first; of what is left, segment by
  segment, the most surprising tokens stay, each surprising after what was *kept* of the segments before.
"""

import re
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer

from common.errors import UserError
from common.hub import from_pretrained
from projects.llmlingua2.compressor import device_of

SENTENCE = re.compile(r"[^.!?\n]*[.!?\n]+\s*|[^.!?\n]+$")
SENTENCES = 1.4
"""Times the budget that the controller leaves to whole sentences (`token_budget_ratio`)."""
TOGETHER = 8192
"""Tokens that are read together, padding included."""
STRIDE = 2
"""A text longer than the model's window is read in windows that overlap by 1 / STRIDE."""


class Compressor(Protocol):
    """Whatever shortens texts to a share of their words."""

    def compress(self, texts: Sequence[str], rate: float) -> list[str]:
        """The texts, each with about `rate` of its words."""
        ...


class LanguageModel:
    """A causal language model that says how surprising tokens are.

    Args:
        source: hub id or folder.
        together: tokens that are read together, padding included.
    """

    def __init__(self, source: str, together: int = TOGETHER):
        self.device = device_of(None)
        self.tokenizer = from_pretrained(AutoTokenizer, source)
        dtype = torch.float32 if self.device.type == "cpu" else "auto"
        self.net = from_pretrained(AutoModelForCausalLM, source, dtype=dtype).to(self.device).eval()
        self.together = together
        start = self.tokenizer.bos_token_id
        self.start = self.tokenizer.eos_token_id if start is None else start
        self.window = getattr(self.net.config, "max_position_embeddings", 2048)

    def encode(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Token ids, and where each token stands in the text."""
        found = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return found.input_ids, found.offset_mapping

    @torch.inference_mode()
    def surprise(self, prefixes: Sequence[list[int]], tokens: Sequence[list[int]]) -> list[Tensor]:
        """-log p of each token in nats, [N], after a prefix and the tokens before it.

        Of a prefix that does not fit the window the end counts.
        """
        found: list[Tensor] = []
        longest = max((1 + len(a) + len(b) for a, b in zip(prefixes, tokens, strict=True)), default=1)
        batch = max(1, self.together // min(longest, self.window))
        for begin in range(0, len(tokens), batch):
            part = [*zip(prefixes[begin : begin + batch], tokens[begin : begin + batch], strict=True)]
            rows = []
            for prefix, row in part:
                room = self.window - 1 - len(row)
                rows.append(torch.tensor([self.start, *(prefix[-room:] if room > 0 else []), *row]))
            ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=self.start).to(self.device)
            seen = torch.nn.utils.rnn.pad_sequence([torch.ones_like(r) for r in rows], batch_first=True)
            logits = self.net(input_ids=ids, attention_mask=seen.to(self.device), use_cache=False).logits[:, :-1]
            loss = F.cross_entropy(logits.float().transpose(1, 2), ids[:, 1:], reduction="none").cpu()
            for (_, row), whole, losses in zip(part, rows, loss, strict=True):
                found.append(losses[len(whole) - 1 - len(row) : len(whole) - 1])
        return found

    def read(self, texts: Sequence[list[int]]) -> list[Tensor]:
        """-log p of every token of whole texts, however long: each window adds what the one before did not reach."""
        step = max(1, (self.window - 1) // STRIDE)
        jobs = [
            (k, ids[max(0, start - step) : start], ids[start : start + step])
            for k, ids in enumerate(texts)
            for start in range(0, len(ids), step)
        ]
        parts: list[list[Tensor]] = [[] for _ in texts]
        losses = self.surprise([before for _, before, _ in jobs], [now for _, _, now in jobs])
        for (k, _, _), loss in zip(jobs, losses, strict=True):
            parts[k].append(loss)
        return [torch.cat(p) if p else torch.zeros(0) for p in parts]


class SelectiveContext:
    """Keep the words with the highest self-information, the mean over their tokens as in the released code.

    The paper sums. A sum is longer for longer words, and leaves fewer answers.

    Args:
        model: hub id or folder of the language model.
    """

    def __init__(self, model: str):
        self.model = LanguageModel(model)

    def compress(self, texts: Sequence[str], rate: float) -> list[str]:
        coded = [self.model.encode(text) for text in texts]
        found = []
        for text, (_, places), loss in zip(texts, coded, self.model.read([ids for ids, _ in coded]), strict=True):
            words = [m.span() for m in re.finditer(r"\S+", text)]
            scores, tokens, k = torch.zeros(len(words)), torch.zeros(len(words)), 0
            for (_, end), value in zip(places, loss.tolist(), strict=True):
                while k + 1 < len(words) and words[k + 1][0] < end:
                    k += 1
                scores[k] += value
                tokens[k] += 1
            kept = top(scores / tokens.clamp(min=1), rate)
            found.append(" ".join(text[a:b] for k, (a, b) in enumerate(words) if kept[k]))
        return found


class LLMLingua:
    """Sentences by their perplexity, then tokens by theirs, segment after segment.

    The threshold of a segment is that of its own tokens (the paper's Algorithm 2; the released code looks at all tokens
    so far). No prompt stands around the texts, so there is nothing else for the controller to divide the budget among.

    Args:
        model: hub id or folder of the language model.
        segment: tokens of a segment.
        sentences: whether the budget controller drops sentences first; the released code leaves that out unless told.
    """

    def __init__(self, model: str, segment: int = 200, sentences: bool = False):
        if segment < 1:
            raise UserError(f"a segment has {segment} tokens: at least 1 is needed")
        self.model, self.segment, self.sentences = LanguageModel(model), segment, sentences
        if segment >= self.model.window:
            raise UserError(f"a segment has {segment} tokens: {model} reads {self.model.window - 1} at most")

    def compress(self, texts: Sequence[str], rate: float) -> list[str]:
        wanted = [rate * len(self.model.encode(text)[0]) for text in texts]
        if self.sentences:
            texts = self._control(texts, wanted)
        coded = [self.model.encode(text) for text in texts]
        rates = [min(1.0, w / max(1, len(ids))) for w, (ids, _) in zip(wanted, coded, strict=True)]
        kept: list[list[int]] = [[] for _ in texts]  # places in each text's tokens
        for start in range(0, max((len(ids) for ids, _ in coded), default=0), self.segment):
            here = [k for k, (ids, _) in enumerate(coded) if start < len(ids)]
            segments = [coded[k][0][start : start + self.segment] for k in here]
            before = [[coded[k][0][place] for place in kept[k]] for k in here]
            for k, loss in zip(here, self.model.surprise(before, segments), strict=True):
                kept[k] += (start + top(loss, rates[k]).nonzero()[:, 0]).tolist()
        return [self._text(text, places, k) for text, (_, places), k in zip(texts, coded, kept, strict=True)]

    def _text(self, text: str, places: list[tuple[int, int]], kept: list[int]) -> str:
        """What stands at the kept tokens, blanks between those that were no neighbours."""
        said, last = "", None
        for k in kept:
            gap = "" if last is not None and k == last + 1 else " "
            said += gap + text[places[k][0] : places[k][1]]
            last = k
        return " ".join(said.split())

    def _control(self, texts: Sequence[str], wanted: Sequence[float]) -> list[str]:
        """The sentences with the highest perplexity, in their order, until the budget is spent."""
        parts = [[m.group() for m in SENTENCE.finditer(text)] for text in texts]
        coded = [self.model.encode(sentence)[0] for sentences in parts for sentence in sentences]
        means = iter([loss.mean().item() if len(loss) else 0.0 for loss in self.model.read(coded)])
        lengths = iter([len(ids) for ids in coded])
        found = []
        for sentences, budget in zip(parts, wanted, strict=True):
            scores, sizes = [next(means) for _ in sentences], [next(lengths) for _ in sentences]
            stays, left = [False] * len(sentences), SENTENCES * budget
            for k in sorted(range(len(sentences)), key=lambda k: -scores[k]):
                if left < 0:
                    break
                stays[k] = True
                left -= sizes[k]
            found.append("".join(s for s, stay in zip(sentences, stays, strict=True) if stay))
        return found


def top(scores: Tensor, rate: float) -> Tensor:
    """Which are the highest, `rate` of them to the nearest number: bool [N], the earlier of equal ones first."""
    kept = torch.zeros(len(scores), dtype=torch.bool)
    kept[scores.argsort(descending=True, stable=True)[: round(rate * len(scores))]] = True
    return kept
