"""Tokenizers: those of the hub, and BERT's with a vocabulary made of some texts: characters and frequent words."""

import string
from collections import Counter
from collections.abc import Iterable

from transformers import AutoTokenizer, BertTokenizer, PreTrainedTokenizerBase

from common.hub import from_pretrained

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a hub id or a folder; UserError where there is none."""
    return from_pretrained(AutoTokenizer, name)


def build_wordpieces(texts: Iterable[str], size: int) -> PreTrainedTokenizerBase:
    """Lower-case WordPiece of at most `size` pieces; the same texts give the same pieces."""
    characters = [c for c in string.printable if c.strip() and c == c.lower()]
    pieces = [*SPECIAL, *characters, *(f"##{c}" for c in string.ascii_lowercase + string.digits)]
    split = _tokenizer(pieces).backend_tokenizer
    words: Counter[str] = Counter()
    for text in texts:
        words.update(word for word, _ in split.pre_tokenizer.pre_tokenize_str(split.normalizer.normalize_str(text)))
    return _tokenizer([*pieces, *(word for word, _ in words.most_common() if word not in pieces)][:size])


def _tokenizer(pieces: list[str]) -> PreTrainedTokenizerBase:
    return BertTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, do_lower_case=True)
