"""Words: the mini prior's vocabulary, and lists of prompts to draw pictures for."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, TypeAdapter
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from common.data.files import lines_of, matching
from common.data.records import json_lines
from common.data.worlds.shapes import VOCABULARY
from common.errors import UserError
from common.paths import expand

ABOUT = """GenEval's or DPG-Bench's prompts.
  from: github.com/djghosh13/geneval (evaluation_metadata.jsonl), github.com/TencentQQGYLab/ELLA (dpg_bench/prompts)
  expected: a JSONL with a `prompt` in each line, or a folder of *.txt, a prompt each"""


def _prompt(row: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(row.get("prompt"), str) or not row["prompt"].strip():
        raise ValueError("`prompt` is missing, empty or no text")
    if "name" in row and Path(str(row["name"])).name != row["name"]:
        raise ValueError("`name` names the picture, and is no file's name")
    return row


PROMPT = TypeAdapter(Annotated[dict[str, Any], AfterValidator(_prompt)])


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
    if not found.is_dir():
        return [row for _, row in json_lines(found, PROMPT, ABOUT)]
    files = matching(found / "*.txt")
    if not files:
        raise UserError(f"no *.txt in {found}.\n{ABOUT}")
    prompts = [{"prompt": "\n".join(lines_of(file)).strip(), "name": file.stem} for file in files]
    if empty := [file for file, row in zip(files, prompts, strict=True) if not row["prompt"]]:
        raise UserError(f"{empty[0]} holds no prompt.\n{ABOUT}")
    return prompts
