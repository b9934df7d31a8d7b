"""Compress prompts with a trained token classifier (section 4): ours, or the authors' from the hub.

    from projects.llmlingua2.compressor import PromptCompressor

    compressor = PromptCompressor("microsoft/llmlingua-2-xlm-roberta-large-meetingbank", use_llmlingua2=True)
    found = compressor.compress_prompt(text, rate=0.33, force_tokens=["\\n", "?"])
    found["compressed_prompt"], found["ratio"]

Arguments and results are those of the authors' package; what they have for LLMLingua alone is in `entropy.py`.
"""

import string
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import AutoModelForTokenClassification, AutoTokenizer, PreTrainedTokenizerBase

from common.errors import UserError
from common.hub import from_pretrained, hub_file
from projects.llmlingua2.annotate import ENDS, chunk_lengths

GPT = "Xenova/gpt-3.5-turbo"
"""The tokenizer of GPT-3.5 and GPT-4, in whose tokens budgets are given."""
WORDS = "words"
"""In their place: words, for comparing models with different tokenizers."""
DOLLARS = 0.06 / 1000
"""What a token of GPT-4's input cost when the paper was written."""
POSITIONS = 512
CACHED = 1 << 16
"""Words whose tokens are counted once."""
FORCED = 100
"""Force tokens, at most; those that are no token of the tokenizer become one of so many added ones."""

Mark = Literal["##", "▁", "Ġ"]
ToWord = Literal["mean", "first"]
Counter = Callable[[str], int]


class Words:
    """How pieces become words.

    Args:
        mark: "##" before what continues a word (BERT), "▁" or "Ġ" before what begins one (XLM-R, GPT-2).
        forced: tokens that stay, whatever the classifier says; each is a word of its own.
        added: force tokens that are several pieces, by the special token that stands for them.
        digits: whether every piece with a digit stays.
    """

    def __init__(
        self, mark: Mark, forced: Sequence[str] = (), added: Mapping[str, str] | None = None, digits: bool = False
    ):
        self.mark, self.forced, self.added, self.digits = mark, {*forced}, dict(added or {}), digits

    def bare(self, piece: str) -> str:
        return piece.removeprefix(self.mark)

    def begins(self, piece: str) -> bool:
        """Whether a piece begins a word."""
        if self.mark == "##":
            return not piece.startswith("##") or self._stays(piece)
        return piece.startswith(self.mark) or piece in self.forced or piece in self.added or piece in string.punctuation

    def _stays(self, piece: str) -> bool:
        return self.bare(piece) in self.forced or self.bare(piece) in self.added

    def merge(
        self, pieces: Sequence[str], probabilities: Sequence[float]
    ) -> tuple[list[str], list[list[float]], list[list[float]]]:
        """Words, the probabilities of each one's pieces with what is forced at 1, and the same without force.

        The latter repeat the first piece's, as released: they decide which contexts stay, and nothing else.
        """
        words: list[str] = []
        found: list[list[float]] = []
        plain: list[list[float]] = []
        for piece, p in zip(pieces, probabilities, strict=True):
            digit = self.digits and any(c.isdigit() for c in piece)
            if not words or self.begins(piece):
                words.append(self.added.get(self.bare(piece), piece))
                found.append([1.0 if digit or self._stays(piece) else p])
                plain.append([p])
            else:
                words[-1] += self.bare(piece)
                found[-1].append(1.0 if digit else p)
                plain[-1].append(plain[-1][0])
        return words, found, plain


def word_probabilities(pieces: list[list[float]], how: ToWord) -> list[float]:
    """A word's probability: the mean over its pieces, or that of the first."""
    return [p[0] if how == "first" else sum(p) / len(p) for p in pieces]


def choose(
    words: Sequence[str],
    probabilities: Sequence[float],
    rate: float,
    count: Counter,
    forced: Sequence[str] = (),
    drop_consecutive: bool = False,
) -> list[bool]:
    """Which words of a chunk stay.

    The threshold is a percentile of the probabilities, each counted as often as its word has tokens. Words above it
    stay; at a threshold of 1, those at 1.

    Args:
        rate: share of the tokens that is to stay. With many forced words more do.
        count: tokens of a word.
        forced: with `drop_consecutive`, of two equal ones with nothing kept between them one is dropped.
    """
    if not words:
        return []
    p, between, last = list(probabilities), False, None
    if drop_consecutive:
        bar = np.percentile(p, int(100 * (1 - rate)))
        for i, word in enumerate(words):
            if word not in forced:
                between |= bool(p[i] > bar)
                continue
            if not between and word == last:
                p[i] = 0.0
            between, last = False, word
    tokens = [p[i] for i, word in enumerate(words) for _ in range(count(word))]
    threshold = np.percentile(tokens or p, min(100, int(100 * (1 - rate) + 1)))
    kept: list[bool] = []
    before = None
    for word, value in zip(words, p, strict=True):
        stays = bool(value > threshold or (threshold == 1.0 and value == threshold))
        stays = stays and not (drop_consecutive and word in forced and word == before)
        before = word if stays else before
        kept.append(stays)
    return kept


def mark_of(tokenizer: PreTrainedTokenizerBase) -> Mark:
    """How a tokenizer marks words; UserError where it does in none of the known ways."""
    pieces = tokenizer.tokenize("a wordthatnobodyknows")
    marks: tuple[Mark, ...] = ("##", "▁", "Ġ")
    for mark in marks:
        if any(piece.startswith(mark) for piece in pieces):
            return mark
    raise UserError(
        "this model's tokenizer marks neither beginnings of words nor continuations: take one like BERT's or XLM-R's"
    )


def counter_of(source: str | None, tokenizer: PreTrainedTokenizerBase) -> Counter:
    """How tokens are counted: by the tokenizer of a hub id or folder, or by the model's own; or a word is one."""
    if source == WORDS:
        return lambda text: len(text.split())
    if source is None:

        def own(text: str) -> int:
            text = f" {text[1:]}" if text.startswith("Ġ") else text  # GPT-2's mark, which it would spell in bytes
            return len(tokenizer.tokenize(text, verbose=False))  # or it warns of long texts

        return lru_cache(CACHED)(own)
    other = Tokenizer.from_file(str(hub_file(source, "tokenizer.json")))
    return lru_cache(CACHED)(lambda text: len(other.encode(text, add_special_tokens=False).ids))


class PromptCompressor:
    """Token classification as a compressor.

    Args:
        model_name: hub id, or folder (the `model/` of a training); a classifier of tokens with two classes, the
            second of which is "keep".
        device_map: "cuda", "cpu", "mps", ...; None takes a GPU where there is one.
        use_llmlingua2: as the authors' package is told; without it theirs is LLMLingua.
        model_config: further arguments of transformers' `from_pretrained` (`dtype`, `revision`, ...).
        llmlingua2_config: `max_batch_size`, chunks that are classified together (50), and `max_force_token` (100).
        counted_by: whose tokens rates and budgets mean; None for the model's own, `WORDS` for words.

    Raises:
        UserError: there is no such model, it is none for this, or there is no such device.
    """

    def __init__(
        self,
        model_name: str,
        device_map: str | None = None,
        model_config: Mapping[str, Any] | None = None,
        llmlingua2_config: Mapping[str, int] | None = None,
        use_llmlingua2: bool = True,
        counted_by: str | None = GPT,
    ):
        if not use_llmlingua2:
            raise UserError("this is LLMLingua-2: LLMLingua is projects.llmlingua2.entropy.LLMLingua")
        self.tokenizer = from_pretrained(AutoTokenizer, model_name)
        self.mark = mark_of(self.tokenizer)
        net = from_pretrained(AutoModelForTokenClassification, model_name, **(model_config or {}))
        if net.config.num_labels != 2:
            raise UserError(f"{model_name} has {net.config.num_labels} classes of tokens: drop and keep are wanted")
        options = {"max_batch_size": 50, "max_force_token": FORCED, **(llmlingua2_config or {})}
        self.batch = options["max_batch_size"]
        self.spare = [f"[NEW{i}]" for i in range(options["max_force_token"])]
        self.special = {*self.tokenizer.all_special_tokens} - {*self.spare}  # a tokenizer may have been saved with them
        self.tokenizer.add_tokens(self.spare, special_tokens=True)
        if len(self.tokenizer) > net.get_input_embeddings().num_embeddings:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(42)  # the rows of added tokens are random; the released models have them already
                net.resize_token_embeddings(len(self.tokenizer), mean_resizing=False)
        self.device = device_of(device_map)
        self.net = net.to(self.device).eval()
        offset = 2 if self.mark == "▁" else 0  # RoBERTa's positions begin behind the padding's
        longest = min(net.config.max_position_embeddings - offset, self.tokenizer.model_max_length)
        self.positions = min(POSITIONS, longest)
        self.count = counter_of(counted_by, self.tokenizer)

    def compress_prompt(
        self,
        context: str | Sequence[str],
        instruction: str = "",
        question: str = "",
        *,
        rate: float = 0.5,
        target_token: float = -1,
        use_context_level_filter: bool = True,
        use_token_level_filter: bool = True,
        target_context: int = -1,
        context_level_rate: float = 1.0,
        context_level_target_token: float = -1,
        force_context_ids: Sequence[int] | None = None,
        return_word_label: bool = False,
        word_sep: str = "\t\t|\t\t",
        label_sep: str = " ",
        token_to_word: ToWord = "mean",
        force_tokens: Sequence[str] = (),
        force_reserve_digit: bool = False,
        drop_consecutive: bool = False,
        chunk_end_tokens: Sequence[str] = ENDS,
    ) -> dict[str, Any]:
        """Shorten a text, or each of several contexts.

        Args:
            context: the text, or contexts.
            instruction, question: what a prompt has beside them. Left out of account: LLMLingua-2 knows no task.
            rate: share of the tokens that is to stay, above 0, at most 1.
            target_token: tokens that are to stay, in place of a rate.
            use_context_level_filter: of several contexts, first drop those whose words are least likely to stay.
            use_token_level_filter: drop words; without, whole contexts alone.
            target_context, context_level_rate, context_level_target_token: what the filter of contexts leaves: so many
                of them, such a share, or so many tokens. By default half way to the rate, or twice the target.
            force_context_ids: contexts that stay.
            return_word_label: also say of every word whether it stayed.
            token_to_word: a word's probability is the mean over its pieces, or that of the first.
            force_tokens: words and signs that stay.
            force_reserve_digit: so do words with digits.
            drop_consecutive: but not equal ones of them with nothing between.
            chunk_end_tokens: where long texts may be cut.

        Returns:
            compressed_prompt, compressed_prompt_list (by context), origin_tokens, compressed_tokens, ratio ("3.0x"),
            rate ("33.3%"), saving; and fn_labeled_original_prompt, "word label" for every word.
        """
        if not 0 < rate <= 1:
            raise UserError(f"rate is {rate}: the share of the tokens that stays lies above 0 and at most at 1")
        if len(force_tokens) > len(self.spare):
            raise UserError(f"{len(force_tokens)} force tokens: {len(self.spare)} are possible (max_force_token)")
        contexts = [context] if isinstance(context, str) else list(context)
        pieces = {t: self.tokenizer.tokenize(t) for t in force_tokens}
        alone = {t for t, found in pieces.items() if len(found) == 1 and found[0].removeprefix(self.mark) == t}
        added = {self.spare[i]: t for i, t in enumerate(force_tokens) if t not in alone}
        rule = Words(self.mark, force_tokens, added, force_reserve_digit)
        ends = [*chunk_end_tokens, *(new for new, t in added.items() if t in chunk_end_tokens)]
        lengths = [self.count(text) for text in contexts]
        chunks = [self._chunks(text, added, ends) for text in contexts]
        together = iter(self._score([chunk for parts in chunks for chunk in parts], rule))
        scored = [[next(together) for _ in parts] for parts in chunks]
        stays = [True] * len(contexts)
        if len(contexts) > 1 and use_context_level_filter:
            share = context_level_rate
            if target_context < 0 and share >= 1 and context_level_target_token < 0:  # nothing is said of contexts
                if target_token >= 0:
                    context_level_target_token = target_token * (2 if use_token_level_filter else 1)
                else:
                    share = (rate + 1) / 2 if use_token_level_filter else rate
            if target_context >= 0:
                share = min(target_context / len(contexts), 1.0)
            if context_level_target_token >= 0:
                share = min(context_level_target_token / max(1, sum(lengths)), 1.0)
            means = [float(np.mean(word_probabilities([p for c in s for p in c[2]], token_to_word) or [0.0]))
                     for s in scored]  # fmt: skip
            bar = np.percentile(means, int(100 * (1 - share)))
            stays = [bool(p >= bar) or i in (force_context_ids or ()) for i, p in enumerate(means)]
        if target_token >= 0:
            left = sum(n for n, stay in zip(lengths, stays, strict=True) if stay)
            rate = min(target_token / max(1, left), 1.0)
        texts: list[str] = []
        labels: list[tuple[str, bool]] = []
        for text, parts, stay in zip(contexts, scored, stays, strict=True):
            whole = rate >= 1 or not use_token_level_filter
            out = ""
            for words, forced, _ in parts:
                kept = [stay] * len(words)
                if stay and not whole:
                    p = word_probabilities(forced, token_to_word)
                    kept = choose(words, p, rate, self.count, force_tokens, drop_consecutive)
                    chosen = [word for word, k in zip(words, kept, strict=True) if k]
                    more = self.tokenizer.convert_tokens_to_string(chosen) if chosen else ""
                    # the released code runs chunks together, and makes one word of two where they meet
                    out += " " + more if out and more and not (out[-1].isspace() or more[0].isspace()) else more
                labels += [(self._plain(word), k) for word, k in zip(words, kept, strict=True)]
            if stay:
                texts.append(text if whole else out)
        before, after = sum(lengths), sum(self.count(text) for text in texts)
        ratio = before / after if after else 1.0
        found: dict[str, Any] = {"compressed_prompt": "\n\n".join(texts), "compressed_prompt_list": texts}
        found |= {"origin_tokens": before, "compressed_tokens": after, "ratio": f"{ratio:.1f}x"}
        found |= {"rate": f"{100 / ratio:.1f}%", "saving": f", Saving ${(before - after) * DOLLARS:.1f} in GPT-4."}
        if return_word_label:
            found["fn_labeled_original_prompt"] = word_sep.join(f"{word}{label_sep}{int(k)}" for word, k in labels)
            found["word_labels"] = labels
        return found

    def compress_prompt_llmlingua2(self, context: str | Sequence[str], **settings: Any) -> dict[str, Any]:
        """`compress_prompt` under the name that leaves contexts alone unless told otherwise."""
        return self.compress_prompt(context, **{"use_context_level_filter": False, **settings})

    def _plain(self, word: str) -> str:
        return word.removeprefix(self.mark) if self.mark != "##" else word

    def _chunks(self, text: str, added: Mapping[str, str], ends: Sequence[str]) -> list[list[str]]:
        """A text's pieces, in chunks that the net can read."""
        for new, token in added.items():
            text = text.replace(token, new)
        pieces = self.tokenizer.tokenize(text, verbose=False)
        found, start = [], 0
        # GPT-2's signs carry the blank before them
        bare = [piece.removeprefix("Ġ") for piece in pieces] if self.mark == "Ġ" else pieces
        for length in chunk_lengths(bare, self.positions - 2, ends):
            found.append(pieces[start : start + length])
            start += length
        return found

    @torch.inference_mode()
    def _score(
        self, chunks: list[list[str]], rule: Words
    ) -> list[tuple[list[str], list[list[float]], list[list[float]]]]:
        """`Words.merge` of each chunk, by what the net says of its pieces."""
        found = []
        for start in range(0, len(chunks), self.batch):
            part = chunks[start : start + self.batch]
            for pieces, p in zip(part, self.probabilities(part), strict=True):
                seen = [(piece, value) for piece, value in zip(pieces, p, strict=True) if piece not in self.special]
                found.append(rule.merge([piece for piece, _ in seen], [value for _, value in seen]))
        return found

    def probabilities(self, chunks: list[list[str]]) -> list[list[float]]:
        """p(keep) of each piece: softmax over the two classes."""
        ids = [self.tokenizer.convert_tokens_to_ids(chunk) for chunk in chunks]
        begin, end = self._frame()
        rows = [torch.tensor([*begin, *row, *end][: self.positions]) for row in ids]  # a full chunk has no end token
        pad = self.tokenizer.pad_token_id or 0
        tokens = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad)
        seen = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
        logits: Tensor = self.net(input_ids=tokens.to(self.device), attention_mask=seen.to(self.device)).logits
        keep = logits.float().softmax(-1)[..., 1].cpu()
        first = len(begin)
        return [row[first : first + len(chunk)].tolist() for row, chunk in zip(keep, ids, strict=True)]

    def _frame(self) -> tuple[list[int], list[int]]:
        """The special tokens around a text: BERT's and XLM-R's; GPT-2 has none."""
        if self.mark == "Ġ":
            return [], []
        return [self.tokenizer.cls_token_id], [self.tokenizer.sep_token_id]


def device_of(name: str | None) -> torch.device:
    """A device by name; UserError where this machine has none such."""
    try:
        found = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"there is no device '{name}' here: cpu always is, cuda where there is a GPU") from error
    return found
