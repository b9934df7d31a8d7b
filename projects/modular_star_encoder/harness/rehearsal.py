"""Stand-ins for what the paper's configs read: made-up code in the real formats, a narrow trunk, a small tokenizer."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from common.data.code import Repository
from common.rehearsal.datasets import make_sentences, write_jsonl, write_parquet
from common.rehearsal.hub import snapshot, write_hub
from projects.modular_star_encoder.model import RELEASED_EXITS, MultiExitEncoder, TrunkSizes
from projects.modular_star_encoder.prepare import write_repositories
from projects.modular_star_encoder.tokens import load_marked_tokenizer

TOKENIZER = "bigcode/starcoder2-15b"
SIZES = TrunkSizes(hidden=32, feed_forward=64, heads=4, kv_heads=2)
"""36 layers, as in `configs/rehearsal/*.yaml`."""

LANGUAGES = ("ruby", "javascript", "go", "python", "java", "php")
PAIRS, TESTED = 24, 4


def make(folder: Path) -> None:
    """Write `data/{the-stack-v2,SynthCoNL,CodeSearchNet,POJ-104,BigCloneBench}`, a trunk in `weights/`, and `hub/`."""
    data = folder / "data"
    repositories = [Repository(f"owner/project{k}", [code(k + n) for n in range(1 + k % 3)]) for k in range(32)]
    write_repositories(data / "the-stack-v2/train-00000-of-00001.parquet", repositories)
    rows = [{**function(k), "language_a": "Python", "language_b": "Go"} for k in range(PAIRS)]
    write_parquet(data / "SynthCoNL/data/train-00000-of-00001.parquet", rows)
    for language in LANGUAGES:
        for part in ("train", "valid", "test"):
            write_jsonl(data / "CodeSearchNet" / language / f"{part}.jsonl", [searched(k) for k in range(TESTED)])
    for part in ("train", "valid", "test"):
        programs = [{"index": str(k), "label": str(k % 2), "code": code(k)} for k in range(TESTED)]
        write_jsonl(data / "POJ-104" / f"{part}.jsonl", programs)
    write_jsonl(data / "BigCloneBench/data.jsonl", [{"func": code(k), "idx": str(k)} for k in range(PAIRS)])
    for part in ("train", "valid", "test"):
        lines = [f"{k}\t{(k + 1) % PAIRS}\t{k % 2}\n" for k in range(PAIRS if part == "train" else TESTED)]
        (data / "BigCloneBench" / f"{part}.txt").write_text("".join(lines), encoding="utf-8")
    write_hub(folder / "hub", [TOKENIZER])
    write_released(folder / "weights", folder / "hub")


def code(number: int) -> str:
    """A made-up function."""
    verb, noun = ("add", "read", "find", "drop")[number % 4], ("items", "lines", "values")[number % 3]
    return f"def {verb}_{noun}_{number}({noun}):\n    for index in {noun}:\n        yield index + {number}\n"


def function(number: int) -> dict[str, str]:
    return {"text": make_sentences(1, number)[0], "code_a": code(number), "code_b": code(number).replace("index", "x")}


def searched(number: int) -> dict[str, object]:
    """A row of CodeXGLUE's cleaned CodeSearchNet."""
    words = make_sentences(1, number)[0]
    return {"repo": "owner/project", "path": "a/b.py", "func_name": f"f{number}", "code": code(number),
            "code_tokens": code(number).split(), "docstring": words, "docstring_tokens": words.split(),
            "url": f"https://example.org/{number}"}  # fmt: skip


def write_released(folder: Path, hub: Path) -> None:
    """A random trunk and a random encoder in bfloat16, their parameters called as in the released files."""
    tokens = len(load_marked_tokenizer(str(snapshot(hub, TOKENIZER))))
    torch.manual_seed(0)
    encoder = MultiExitEncoder(SIZES, tokens, RELEASED_EXITS)
    trunk = {f"starEncoder2.{name}": value.bfloat16() for name, value in encoder.trunk.state_dict().items()}
    heads = {
        f"starEncoder2.projection_heads.{number}.{name}": value.bfloat16()
        for number, head in enumerate(encoder.projections.values())
        for name, value in head.state_dict().items()
    }
    for name, state in (("ModularStarEncoder", trunk), ("ModularStarEncoder-finetuned", {**trunk, **heads})):
        (folder / name).mkdir(parents=True, exist_ok=True)
        save_file(state, folder / name / "model.safetensors")
