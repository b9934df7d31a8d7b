"""Tokenizers of the real classes with small vocabularies, made of a page of text: the same ones in every run."""

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import transformers
from tokenizers.pre_tokenizers import ByteLevel
from transformers import PreTrainedTokenizerBase

# words and code of the kinds that recipes read, and every printable character
TEXT = [
    "A photo of a small brown cat that sleeps on a red chair beside the window.",
    "Two people ride bicycles along the river while a white dog runs after them.",
    "The large blue circle moves slowly to the left, and the green square to the right.",
    "What is the capital of the country? The question was answered in the second paragraph.",
    "This movie is not good: the story is weak, but the actors are great and the music is wonderful.",
    "In 1998 the company had 1,250 employees; by 2024 there were more than 36,000 of them.",
    'def add(first, second):\n    """Return the sum of two numbers."""\n    return first + second',
    "for index, value in enumerate(values):\n    if value is None:\n        raise ValueError(f'no value at {index}')",
    "class Reader:\n    def __init__(self, path: str):\n        self.lines = open(path).read().split('\\n')",
    string.printable,
]
SIZE = 600


def byte_level(
    kind: Callable[[], PreTrainedTokenizerBase], special: Sequence[str] = (), length: int | None = None
) -> PreTrainedTokenizerBase:
    """A byte-level or byte-fallback BPE tokenizer, trained on `TEXT`.

    Args:
        kind: a class, or a function, whose `kind()` is an untrained tokenizer with its special tokens.
        special: what else the released tokenizer has.
        length: longest input in tokens; `None` for no limit.
    """
    trained = kind().train_new_from_iterator(TEXT, SIZE, new_special_tokens=list(special), show_progress=False)
    return _limited(trained, length)


def wordpiece(lower: bool = True, kind: type = transformers.BertTokenizer) -> PreTrainedTokenizerBase:
    """BERT's: special tokens, some `[unused]` ones (which the text itself never becomes), characters, words of `TEXT`.

    Its trainer, like that of CLIP and T5, breaks ties by a random hash: two runs would not get the same vocabulary.
    """
    special = ["[PAD]", *(f"[unused{i}]" for i in range(16)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    characters = sorted({c.lower() if lower else c for c in string.printable if not c.isspace()})
    pieces = [*special, *characters, *(f"##{c}" for c in characters), *_words(lower)]
    return _limited(kind(vocab=_numbered(pieces), do_lower_case=lower), 512)


def clip_bpe(pad: str = "<|endoftext|>") -> PreTrainedTokenizerBase:
    """CLIP's: bytes, and the merges that build the words of `TEXT`; Stable Diffusion 2 pads with "!"."""
    alphabet = sorted(ByteLevel.alphabet())
    merges: dict[tuple[str, str], None] = {}
    for word in _words(lower=True):
        left = word[0]
        for right in [*word[1:-1], f"{word[-1]}</w>"]:
            merges[left, right] = None
            left += right
    pieces = [*alphabet, *(f"{c}</w>" for c in alphabet), *(left + right for left, right in merges)]
    vocabulary: dict[str, Any] = {
        "vocab": _numbered([*pieces, "<|startoftext|>", "<|endoftext|>"]),
        "merges": list(merges),
    }
    return _limited(transformers.CLIPTokenizer(**vocabulary, pad_token=pad), 77)


def unigram() -> PreTrainedTokenizerBase:
    """T5's: words of `TEXT`, likelier than their characters, and 100 sentinels `<extra_id_0>`, ..."""
    characters = sorted(c for c in string.printable if not c.isspace())
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces = [(f"▁{word}", -6.0) for word in _words()] + [(c, -9.0) for c in ("▁", *characters)]
    return _limited(transformers.T5Tokenizer(vocab=special + pieces, extra_ids=100), 512)


def xlm_unigram() -> PreTrainedTokenizerBase:
    """XLM-R's: words of `TEXT`, likelier than their characters, after four special tokens and before the mask."""
    characters = sorted(c for c in string.printable if not c.isspace())
    pieces = [(f"▁{word}", -6.0) for word in _words()] + [(c, -9.0) for c in ("▁", *characters)]
    special = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    return _limited(transformers.XLMRobertaTokenizer(vocab=[*special, *pieces, ("<mask>", 0.0)]), 512)


def _limited(tokenizer: PreTrainedTokenizerBase, length: int | None) -> PreTrainedTokenizerBase:
    if length is not None:
        tokenizer.model_max_length = length
    return tokenizer


def _words(lower: bool = False) -> list[str]:
    """Words of two letters or more, the most frequent first."""
    text = " ".join(TEXT[:-1])
    return [word for word, _ in Counter(re.findall(r"[A-Za-z]{2,}", text.lower() if lower else text)).most_common()]


def _numbered(pieces: Sequence[str]) -> dict[str, int]:
    return {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
