"""Have a language model compress texts by the instruction: the data distillation (section 3.1), with any teacher.

    python -m projects.llmlingua2.distill test --config projects/llmlingua2/configs/paper/distill.yaml

Leaves `pairs.jsonl` in the run folder, lines of `original` and `compressed`, which `train` reads as a `CompressedFile`.
The paper's teacher, GPT-4, is not asked: its compressions are released.
"""

import json
from pathlib import Path

import lightning.pytorch as L
import torch
from pydantic import PositiveInt
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoTokenizer

from common.cli import main
from common.data.files import write_atomic
from common.data.plain_texts import PlainTexts
from common.data.tokenizers import load_tokenizer
from common.hub import from_pretrained
from projects.llmlingua2.annotate import ENDS, annotate, chunk_lengths, messages, split_words
from projects.llmlingua2.compressor import device_of


class Distilling(L.LightningModule):
    """Asks a teacher to compress chunks.

    Args:
        teacher: hub id or folder of a causal language model; one that chats is asked in its own form.
        temperature: of its answers; 0 takes the likeliest token (the released code; the paper's appendix has 0.3).
        max_tokens: longest answer.
    """

    run_dir: Path

    def __init__(self, teacher: str, temperature: float = 0.0, max_tokens: PositiveInt = 1024):
        super().__init__()
        place = device_of(None)
        self.tokenizer = from_pretrained(AutoTokenizer, teacher, padding_side="left")
        self.tokenizer.pad_token = self.tokenizer.pad_token or self.tokenizer.eos_token
        dtype = torch.float32 if place.type == "cpu" else torch.bfloat16
        self.teacher = from_pretrained(AutoModelForCausalLM, teacher, dtype=dtype).eval()
        self.temperature, self.max_tokens = temperature, max_tokens
        self.pairs: list[dict[str, str]] = []

    def prompt(self, text: str) -> str:
        """What the teacher is asked of a chunk."""
        asked = messages(text)
        if self.tokenizer.chat_template:
            return str(self.tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True))
        return "\n\n".join(part["content"] for part in asked) + "\n"

    def test_step(self, chunks: list[str], batch_idx: int) -> None:
        coded = self.tokenizer([self.prompt(chunk) for chunk in chunks], return_tensors="pt", padding=True).to(
            self.device
        )
        warm = {"do_sample": True, "temperature": self.temperature} if self.temperature > 0 else {"do_sample": False}
        tokens = self.teacher.generate(
            **coded, max_new_tokens=self.max_tokens, pad_token_id=self.tokenizer.pad_token_id, **warm
        )
        written = self.tokenizer.batch_decode(tokens[:, coded.input_ids.shape[1] :], skip_special_tokens=True)
        for chunk, text in zip(chunks, written, strict=True):
            self.pairs.append({"original": chunk, "compressed": text.strip()})
            words, left = ([word.text for word in split_words(part)] for part in (chunk, text))
            _, quality = annotate(words, left, window=400)
            for name in ("compression", "variation", "gap"):
                self.log(f"test/{name}", getattr(quality, name), batch_size=1)

    def on_test_end(self) -> None:
        lines = "".join(json.dumps(pair, ensure_ascii=False) + "\n" for pair in self.pairs)
        write_atomic(self.run_dir / "pairs.jsonl", lines.encode())


class Chunks(L.LightningDataModule):
    """Texts in chunks that end with a sentence or a line.

    Args:
        texts: what is to be compressed.
        tokenizer: hub id or folder of the tokenizer in whose tokens chunks are measured.
        chunk: tokens of a chunk, at most one more.
        batch_size: chunks that the teacher is given together.
        limit: only the first so many texts.
    """

    def __init__(
        self,
        texts: PlainTexts,
        tokenizer: str,
        chunk: PositiveInt = 512,
        batch_size: PositiveInt = 8,
        limit: PositiveInt | None = None,
    ):
        super().__init__()
        coder = load_tokenizer(tokenizer)
        self.chunks: list[str] = []
        for text in texts.read("train")[:limit]:
            coded = coder(text, add_special_tokens=False, return_offsets_mapping=True)
            pieces = [text[a:b].strip(" ") for a, b in coded.offset_mapping]
            start = 0
            for length in chunk_lengths(pieces, chunk, ENDS):
                first, last = coded.offset_mapping[start], coded.offset_mapping[start + length - 1]
                self.chunks.append(text[first[0] : last[1]])
                start += length
        self.chunks = [chunk for chunk in self.chunks if split_words(chunk)]
        self.batch_size = batch_size

    def test_dataloader(self) -> DataLoader:
        return DataLoader(self.chunks, self.batch_size, collate_fn=list)  # type: ignore[arg-type]


if __name__ == "__main__":
    main(Distilling, Chunks)
