"""Pictures to tokens and back, with a tokenizer that this recipe has trained.

python -m projects.vqrae.tools.tokens reconstruct photo.jpg --run <folder> --out seen/   # side by side, with their PSNR
python -m projects.vqrae.tools.tokens encode holiday/ other.png --run <folder> --out tokens.npz
python -m projects.vqrae.tools.tokens decode tokens.npz --run <folder> --out again/

`--run` is a run folder of projects.vqrae.train: its config.yaml says which encoder, its weights.safetensors hold what
was learned. Of every picture the middle square is taken, at the size that the tokenizer was trained on. Pictures of all
kinds are read, upright, transparent ones over white (see common/data/pictures.py); one that cannot be read is named and
left out, and the exit code is then 1, or 2 where none could be read.

tokens.npz holds `tokens` int32 [n, N], row by row of each picture, `names` [n], and `tokenizer`, which tells whose they
are: another tokenizer's are refused.
"""

# torch is imported after the command line has been read, so that --help and its errors come at once
from __future__ import annotations

import argparse
import sys
import zipfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np

from common.console import printable
from common.data.files import write_atomic
from common.errors import UserError, user_errors
from common.paths import given_path
from projects.vqrae.tools.loading import Batches, Trained, add_batch, add_run, load_trained, results_folder, write_png


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(
        prog="python -m projects.vqrae.tools.tokens",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = command.add_subparsers(dest="verb", required=True, metavar="{reconstruct,encode,decode}")
    for verb, help_ in (
        ("reconstruct", "picture -> tokens -> picture, side by side"),
        ("encode", "pictures -> tokens"),
    ):
        one = verbs.add_parser(verb, help=help_)
        one.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="pictures, or folders of pictures")
        add_batch(one)
    verbs.add_parser("decode", help="tokens -> pictures").add_argument("tokens", type=Path, help="a file of `encode`")
    for verb, one in verbs.choices.items():
        add_run(one, "projects.vqrae.train")
        what = "the file of tokens, *.npz" if verb == "encode" else "folder of the pictures"
        one.add_argument("--out", type=given_path, required=True, help=what)
    add_batch(verbs.choices["decode"])
    return command


def reconstruct(options: argparse.Namespace) -> int:
    """Write each picture beside what its tokens make of it."""
    import torch

    from common.data.images import to_uint8

    batches = Batches(options.images, options.batch)
    files = dict(zip(batches.paths, results_folder(options.out, (path.stem for path in batches.paths)), strict=True))
    trained = load_trained(options.run, options.device)
    for paths, images in batches:
        pixels = trained.pixels(images)
        with torch.no_grad():
            indices = trained.tokenizer.tokens(pixels)
            made = trained.tokenizer.decode_indices(indices).float().clamp(0, 1)
        psnr = -10 * (made - pixels).square().mean((1, 2, 3)).log10()
        rows = zip(paths, to_uint8(pixels), to_uint8(made), psnr.tolist(), indices, strict=True)
        for path, original, again, decibels, own in rows:
            write_png(files[path], np.concatenate([original, again], 1))
            different = f"{len(own.unique())} different ones among {len(own)} tokens"
            print(f"{printable(path)}: PSNR {decibels:.2f} dB, {different} -> {printable(files[path])}", flush=True)
    return batches.code()


def encode(options: argparse.Namespace) -> int:
    """Write the tokens of pictures into one file."""
    if options.out.suffix != ".npz":
        raise UserError(f"--out {printable(options.out)}: the name of a file of tokens ends in .npz")
    if not options.out.absolute().parent.is_dir():
        raise UserError(f"no folder {printable(options.out.parent)} to write into: create it first")
    batches = Batches(options.images, options.batch)
    trained = load_trained(options.run, options.device)
    names: list[str] = []
    found: list[np.ndarray] = []
    for paths, images in batches:
        names += [str(path) for path in paths]
        found.append(trained.tokenizer.tokens(trained.pixels(images)).cpu().numpy().astype(np.int32))
    if found:
        content = BytesIO()
        tokenizer = np.array(trained.identity())
        np.savez_compressed(content, tokens=np.concatenate(found), names=np.array(names), tokenizer=tokenizer)
        write_atomic(options.out, content.getvalue())
        print(f"{len(names)} pictures of {trained.length} tokens each -> {printable(options.out)}")
    return batches.code()


def decode(options: argparse.Namespace) -> int:
    """Write the pictures that tokens stand for."""
    import torch

    from common.data.images import to_uint8

    if options.batch < 1:
        raise UserError("--batch is at least 1")
    tokens, names, identity = read_tokens(options.tokens)
    trained = load_trained(options.run, options.device)
    check(tokens, identity, trained, options)
    files = results_folder(options.out, (Path(name).stem for name in names))
    for start in range(0, len(tokens), options.batch):
        part = torch.from_numpy(tokens[start : start + options.batch].astype(np.int64)).to(trained.device)
        with torch.no_grad():
            made = to_uint8(trained.tokenizer.decode_indices(part))
        for file, image in zip(files[start : start + options.batch], made, strict=True):
            write_png(file, image)
            print(printable(file), flush=True)
    return 0


def read_tokens(file: Path) -> tuple[np.ndarray, list[str], str]:
    """Tokens [n, N], names, and whose they are; UserError for what `encode` has not written."""
    try:
        with np.load(file, allow_pickle=False) as held:
            tokens, names, identity = held["tokens"], held["names"].tolist(), str(held["tokenizer"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f"cannot read {printable(file)} as tokens ({error}): give a file that `encode` wrote"
        ) from error
    if tokens.ndim != 2 or tokens.dtype.kind not in "iu" or len(tokens) != len(names):
        raise UserError(f"{printable(file)} holds no tokens [n, N] with a name each: give a file that `encode` wrote")
    return tokens, [str(name) for name in names], identity


def check(tokens: np.ndarray, identity: str, trained: Trained, options: argparse.Namespace) -> None:
    """UserError for tokens that this tokenizer has not written."""
    assert trained.tokenizer.quantizer is not None
    codes = trained.tokenizer.quantizer.codebook_size
    fits = tokens.shape[1] == trained.length and tokens.min(initial=0) >= 0 and tokens.max(initial=0) < codes
    if identity != trained.identity() or not fits:
        raise UserError(
            f"{printable(options.tokens)} is of another tokenizer than {printable(options.run)}: give the run "
            "that they were encoded with"
        )


@user_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; a user's error is one message and exit code 2."""
    options = parser().parse_args(arguments)
    return {"reconstruct": reconstruct, "encode": encode, "decode": decode}[options.verb](options)


if __name__ == "__main__":
    sys.exit(main())
