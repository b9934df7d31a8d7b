"""Words: the mini prior's vocabulary, and lists of prompts to draw pictures for."""

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from common.data.worlds.shapes import VOCABULARY
from common.errors import UserError
from common.paths import expand


def world_words() -> PreTrainedTokenizerFast:
    """A tokenizer with a token for every word of the world of shapes."""
    vocabulary = {word: number for number, word in enumerate(("<pad>", "<unk>", *VOCABULARY))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>")


def read_prompts(path: str) -> list[dict[str, Any]]:
    """Prompts of a benchmark: GenEval's `evaluation_metadata.jsonl`, or DPG-Bench's folder of text files.

    Returns:
        What is known of each: `prompt`, and for GenEval what its evaluation asks for; for DPG-Bench `name`.

    Raises:
        UserError: nothing there, or lines without a prompt.
    """
    found = expand(path, "prompts")
    if found.is_dir():
        files = sorted(found.glob("*.txt"))
        if not files:
            raise UserError(f"no *.txt in {found}: give DPG-Bench's folder of prompts, or GenEval's jsonl")
        return [{"prompt": file.read_text(encoding="utf-8").strip(), "name": file.stem} for file in files]
    return _lines(found)


def _lines(file: Path) -> list[dict[str, Any]]:
    try:
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {file} as a prompt a line ({error}): give GenEval's jsonl") from error
    if not rows or not all(isinstance(row, dict) and row.get("prompt") for row in rows):
        raise UserError(f"{file} has lines without a 'prompt': give GenEval's evaluation_metadata.jsonl")
    return rows
