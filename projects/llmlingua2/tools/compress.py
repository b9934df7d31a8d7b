"""Compress a prompt, and show what was dropped.

python -m projects.llmlingua2.tools.compress prompt.txt --rate 0.33 --keep "?" "."
python -m projects.llmlingua2.tools.compress *.md --target 500 --digits --out short.txt
python -m projects.llmlingua2.tools.compress notes.txt --model runs/llmlingua2/mini/train-1a2b3c4d5e/seed0/model
cat prompt.txt | python -m projects.llmlingua2.tools.compress - --quiet

Several files are several contexts: the least useful are dropped whole, unless --all. The shortened prompt goes to the
terminal, or to --out; above it stands the prompt with dropped words in grey (in [brackets] where there are no
colours), below it sizes, ratio and time. Rates and targets mean GPT-3.5's tokens, with a model in a folder its own.
"""

# torch is imported after the command line has been read, so that --help and its errors come at once
from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from common.console import tolerant_console
from common.data.files import readable, text_of, write_atomic
from common.errors import UserError, user_errors
from common.paths import given_path

RELEASED = "microsoft/llmlingua-2-bert-base-multilingual-cased-meetingbank"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(
        prog="python -m projects.llmlingua2.tools.compress",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("files", nargs="+", metavar="FILE", help="text files, or - for what is piped in")
    command.add_argument("--model", default=RELEASED, help=f"hub id, or a training's model/ (default: {RELEASED})")
    size = command.add_mutually_exclusive_group()
    size.add_argument("--rate", type=float, default=0.5, help="share of the tokens that stays (default: 0.5)")
    size.add_argument("--target", type=int, help="tokens that stay, in place of a rate")
    command.add_argument(
        "--keep", nargs="*", default=[], metavar="WORD", help=r"words and signs that stay; \n is the end of a line"
    )
    command.add_argument("--digits", action="store_true", help="words with digits stay")
    command.add_argument("--tidy", action="store_true", help="of equal kept signs with nothing between, keep one")
    command.add_argument("--all", action="store_true", help="drop no file whole")
    command.add_argument("--own-tokens", action="store_true", help="rates and targets mean the model's tokens")
    command.add_argument("--device", help="cpu, cuda, ... (default: a GPU where there is one)")
    command.add_argument("--out", type=given_path, help="write the shortened prompt to this file")
    command.add_argument("--json", type=given_path, help="write all results to this file, every word with its label")
    command.add_argument("--quiet", action="store_true", help="print the shortened prompt alone")
    return command


def read(name: str) -> str:
    """A file's text, or what is piped in; UserError where there is none."""
    if name == "-":
        content, place = sys.stdin.buffer.read(), Path("the standard input")
    else:
        place = given_path(name)
        if not place.is_file():
            raise UserError(f"no file at {place}: correct the path, or give - and pipe the prompt in")
        with readable(place):
            content = place.read_bytes()
    text = text_of(content, place).replace("\r\n", "\n")
    if not text.strip():
        raise UserError(f"{place} is empty: there is nothing to compress")
    return text


def highlighted(labels: Sequence[tuple[str, bool]], colours: bool) -> Text:
    """All words, the dropped ones grey, or in brackets."""
    shown = Text()
    for word, kept in labels:
        if word == "\n":
            shown.append("\n")
        elif kept or colours:
            shown.append(f"{word} ", "" if kept else "bright_black")
        else:
            shown.append(f"[{word}] ")
    return shown


def run(arguments: Sequence[str] | None = None) -> int:
    tolerant_console()
    options = parser().parse_args(arguments)
    if not 0 < options.rate <= 1:
        raise UserError(f"--rate {options.rate}: the share of the tokens that stays lies above 0 and at most at 1")
    if options.target is not None and options.target < 1:
        raise UserError(f"--target {options.target}: at least one token has to stay")
    texts = [read(name) for name in options.files]
    from projects.llmlingua2.compressor import GPT, PromptCompressor

    own = options.own_tokens or given_path(options.model).is_dir()
    compressor = PromptCompressor(options.model, options.device, counted_by=None if own else GPT)
    start = time.perf_counter()
    found = compressor.compress_prompt(
        texts,
        rate=options.rate,
        target_token=-1 if options.target is None else options.target,
        use_context_level_filter=not options.all,
        force_tokens=[word.replace("\\n", "\n") for word in options.keep],
        force_reserve_digit=options.digits,
        drop_consecutive=options.tidy,
        return_word_label=True,
    )
    seconds = time.perf_counter() - start
    short = found["compressed_prompt"]
    labels = found.pop("word_labels")
    if options.json is not None:
        content = {**found, "words": [[word, kept] for word, kept in labels], "seconds": round(seconds, 3)}
        write_atomic(options.json, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
    if options.out is not None:
        write_atomic(options.out, f"{short}\n".encode())
    if not options.quiet:
        console = Console(highlight=False, soft_wrap=True)
        console.print(highlighted(labels, console.color_system is not None), end="\n\n")
    if options.out is None:
        print(short)
    if not options.quiet:
        tokens = "tokens of the model" if own else "tokens of GPT-3.5"
        print(f"\n{found['origin_tokens']} -> {found['compressed_tokens']} {tokens}, {found['ratio']}, {seconds:.1f} s")
    return 0


@user_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; a user's error is one message and exit code 2."""
    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
