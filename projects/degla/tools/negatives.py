"""Hard negatives for own captions: by rules, or by a language model; as the stage finetune reads them.

python -m projects.degla.tools.negatives captions.tsv --out negatives.json
python -m projects.degla.tools.negatives captions.txt --model meta-llama/Meta-Llama-3-8B-Instruct --out negatives.json

A line is a caption, or a picture's file and its caption with a tab between. To train on them:

    python -m projects.degla.finetune fit --config projects/degla/configs/paper/base.yaml \\
        --config projects/degla/configs/paper/finetune.yaml --trainer.devices 1 \\
        --data.train.init_args.file negatives.json --data.train.init_args.images photos/
"""

# torch is imported after the command line has been read, so that --help and its errors come at once
from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from common.console import printable
from common.data.files import is_file, lines_of, write_atomic
from common.devices import device_of, device_option
from common.errors import UserError, user_errors
from common.paths import given_path
from projects.degla.negatives import by_model, by_rules

BATCH = 16  # captions that a model rewrites at a time


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(
        prog="python -m projects.degla.tools.negatives",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("captions", type=given_path, metavar="FILE", help="captions, or file<TAB>caption, one a line")
    command.add_argument("--out", type=given_path, required=True, help="the JSON file to write")
    command.add_argument("--count", type=int, default=4, help="negatives of each caption (default: 4)")
    command.add_argument("--model", metavar="ID", help="hub id or folder of a causal language model (default: rules)")
    command.add_argument("--seed", type=int, default=0, help="of the rules (default: 0)")
    device_option(command)
    return command


def by_language_model(captions: list[str], options: argparse.Namespace) -> list[list[str]]:
    """A model's negatives; where too few of its answers are any, those of the rules fill up."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from common.hub import from_pretrained

    device = device_of(options.device)
    model = from_pretrained(
        AutoModelForCausalLM, options.model, dtype=torch.float32 if device == "cpu" else torch.bfloat16
    )
    tokenizer = from_pretrained(AutoTokenizer, options.model)
    model = model.to(device).eval()
    found = []
    for start in range(0, len(captions), BATCH):
        found += by_model(captions[start : start + BATCH], options.count, model, tokenizer)
        print(f"{len(found)} of {len(captions)} captions", file=sys.stderr, flush=True)
    for caption, kept in zip(captions, found, strict=True):
        more = [text for text in by_rules(caption, options.count, options.seed) if text not in kept]
        kept += more[: options.count - len(kept)]
    return found


def run(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    if options.count < 1:
        raise UserError(f"--count {options.count}: at least one negative is needed")
    if not options.out.parent.is_dir() or options.out.is_dir():
        raise UserError(f"--out {printable(options.out)}: give a file in a folder that is there")
    if not is_file(options.captions):
        raise UserError(f"{printable(options.captions)}: there is no such file")
    pairs = [line.rpartition("\t") for line in lines_of(options.captions) if line.strip()]
    captions = [caption.strip() for _, _, caption in pairs]
    if options.model:
        negatives = by_language_model(captions, options)
    else:
        negatives = [by_rules(caption, options.count, options.seed) for caption in captions]
    entries = [
        {"original": caption, "enhanced": made} | ({"image": file.strip()} if file.strip() else {})
        for (file, _, _), caption, made in zip(pairs, captions, negatives, strict=True)
        if len(made) == options.count
    ]
    if not entries:
        raise UserError(f"{printable(options.captions)}: no caption has {options.count} negatives; lower --count")
    text = json.dumps(entries, indent=1, ensure_ascii=False)
    write_atomic(options.out, (text + "\n").encode())
    left = len(captions) - len(entries)
    print(f"{printable(options.out)}: {len(entries)} captions with {options.count} negatives each")
    if left:
        print(f"{left} captions are left out: too few negatives of them could be made", file=sys.stderr)
    return 0


@user_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; a user's error is one message and exit code 2."""
    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
