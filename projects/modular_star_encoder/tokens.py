"""Code and text as tokens: StarCoder's tokenizer with the markers that MoSE adds, and its input format."""

import string
from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from tokenizers import Regex, Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import Lowercase, Replace
from tokenizers.normalizers import Sequence as Normalizers
from tokenizers.pre_tokenizers import BertPreTokenizer
from torch import Tensor
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from common.data.tokenizers import load_tokenizer

MARKERS = {"sep": "<sep>", "cls": "<cls>", "mask": "<mask>", "pad": "<pad>"}
"""In the order of their ids: 49152, 49153, ... behind StarCoder-2's 49,152 pieces; that the fourth pads is ours."""
CHARACTERS = 16  # a token's at most, nearly always: what is longer need not be tokenized to be cut

_CHARACTERS = sorted(c for c in string.printable if not c.isspace() and c == c.lower())
CHARACTER_PIECES = [*_CHARACTERS, *(f"##{c}" for c in _CHARACTERS if c.isalnum())]
"""What words that the vocabulary lacks are spelled with."""

Batch = dict[str, Tensor]
"""input_ids and attention_mask, int64 [B, N], padded on the left."""


def load_marked_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a hub id or a folder, with MoSE's markers added where it lacks them."""
    return marked(load_tokenizer(name))


def build_tokenizer(texts: Iterable[str], size: int) -> PreTrainedTokenizerBase:
    """Lower-case words, and characters for other words: `size` tokens, markers included; same texts, same pieces.

    Identifiers are taken apart (`readLine`, `read_line`: read, line), so that a net as small as the mini one can see
    the words of a description in its code. StarCoder's own tokenizer needs more of both, data and net.
    """
    known = ["<unk>", *CHARACTER_PIECES]
    split = _word_tokenizer(known).backend_tokenizer
    counts: Counter[str] = Counter()
    for text in texts:
        normal = split.normalizer.normalize_str(text)
        counts.update(word for word, _ in split.pre_tokenizer.pre_tokenize_str(normal))
    words = [word for word, _ in counts.most_common() if word not in known]
    return marked(_word_tokenizer([*known, *words][: size - len(MARKERS)]))


def _word_tokenizer(vocabulary: Sequence[str]) -> PreTrainedTokenizerBase:
    model = WordPiece({piece: i for i, piece in enumerate(vocabulary)}, unk_token="<unk>", max_input_chars_per_word=50)
    tokenizer = Tokenizer(model)
    humps = [Replace(Regex(f"(?<=[a-z0-9]){letter}"), f" {letter}") for letter in string.ascii_uppercase]
    tokenizer.normalizer = Normalizers([*humps, Lowercase()])
    tokenizer.pre_tokenizer = BertPreTokenizer()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


def marked(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """The tokenizer with <sep>, <cls>, <mask> and <pad>."""
    tokenizer.add_tokens(list(MARKERS.values()), special_tokens=True)
    for role, word in MARKERS.items():
        setattr(tokenizer, f"{role}_token", word)
    return tokenizer


def pieces(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], length: int) -> list[list[int]]:
    """Each text's first `length` tokens; a marker that stands in a text is spelled out like any word."""
    if not texts:
        return []  # the tokenizer takes none for an error
    cut = [text[: CHARACTERS * length] for text in texts]
    found = tokenizer(cut, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
    return [ids[:length] for ids in found]


def marked_up(tokenizer: PreTrainedTokenizerBase, parts: Sequence[Sequence[int]]) -> list[int]:
    """<sep> part <sep> part ... <cls>; the first part is the instruction where there is one."""
    ids = [token for part in parts for token in (tokenizer.sep_token_id, *part)]
    return [*ids, tokenizer.cls_token_id]


def padded(rows: Sequence[Sequence[int]], pad: int) -> Tensor:
    """Rows of ids of any length as int64 [B, N], padded on the left."""
    longest = max(map(len, rows))
    return torch.tensor([[pad] * (longest - len(row)) + list(row) for row in rows])


def batched(rows: Sequence[Sequence[int]], pad: int) -> Batch:
    """Rows of ids with the mask of their padding."""
    return {"input_ids": padded(rows, pad), "attention_mask": padded([[1] * len(row) for row in rows], 0)}


class Formatter:
    """Texts and code in MoSE's format: "<sep>instruction<sep>content<cls>", cut to `max_length` tokens in all.

    Args:
        tokenizer: with MoSE's markers.
        max_length: tokens of an input.
        code_instruction: before code; `{language}` is replaced, in lower case as in the model card. Cut to half of
            `max_length`.
        text_instruction: before words.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, max_length: int, code_instruction: str, text_instruction: str
    ):
        self.tokenizer, self.max_length = tokenizer, max_length
        self.code_instruction, self.text_instruction = code_instruction, text_instruction

    def code(self, codes: Sequence[str], languages: Sequence[str]) -> list[list[int]]:
        """Ids of codes, each with its language."""
        return self._rows([self.code_instruction.format(language=language.lower()) for language in languages], codes)

    def text(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of descriptions or queries."""
        return self._rows([self.text_instruction] * len(texts), texts)

    def _rows(self, instructions: Sequence[str], contents: Sequence[str]) -> list[list[int]]:
        distinct = list(dict.fromkeys(instructions))
        known = dict(zip(distinct, pieces(self.tokenizer, distinct, self.max_length // 2), strict=True))
        found = pieces(self.tokenizer, contents, self.max_length)
        rows = []
        for instruction, content in zip(instructions, found, strict=True):
            room = self.max_length - len(known[instruction]) - 3
            rows.append(marked_up(self.tokenizer, [known[instruction], content[: max(0, room)]]))
        return rows

    def batch(self, rows: Sequence[Sequence[int]]) -> Batch:
        return batched(rows, self.tokenizer.pad_token_id)
