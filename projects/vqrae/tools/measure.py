"""rFID, PSNR, SSIM and use of the codebook of a trained tokenizer, on pictures of one's own.

python -m projects.vqrae.tools.measure photos/ --run <folder> --inception pt_inception-2015-12-05-6726825d.pth
python -m projects.vqrae.tools.measure photos/ --run <folder> --json measured.json

`--run` is a run folder of projects.vqrae.train. rFID is over Inception's features; without `--inception` (its file is
named in `make reproduce PAPER=vqrae SCALE=paper`) over those of the ConvNeXt that the run's perceptual loss has, which
compares with mini figures only. A Frechet distance wants several times more pictures than it has features. Which codes
count as used depends on how many pictures are shown: the paper shows ImageNet's 50,000.

Of every picture the middle square is taken, at the size that the tokenizer was trained on; one that cannot be read is
named and left out, and the exit code is then 1, or 2 where none could be read. Beside PSNR stands its floor: that of
the pictures painted in their own mean colours.
"""

# torch is imported after the command line has been read, so that --help and its errors come at once
from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from common.data.files import write_atomic
from common.errors import UserError, user_errors
from common.paths import given_path
from projects.vqrae.tools.loading import Batches, Trained, add_batch, add_run, load_trained

LABELS = {
    "pictures": "pictures",
    "rfid": "rFID",
    "psnr": "PSNR, dB",
    "psnr_floor": "PSNR of the mean colours, dB",
    "ssim": "SSIM",
    "usage": "codes used, share",
    "perplexity": "perplexity of the codes, share",
    "quantisation_error": "quantisation error, share of the tokens' variance",
}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(
        prog="python -m projects.vqrae.tools.measure",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="pictures, or folders of pictures")
    add_run(command, "projects.vqrae.train")
    command.add_argument("--inception", type=given_path, help="torch-fidelity's file of Inception's weights")
    command.add_argument("--json", type=given_path, help="also write the figures to this file")
    add_batch(command)
    return command


def measure(trained: Trained, batches: Batches, inception: Path | None) -> dict[str, float]:
    """The figures named in LABELS; those that need two pictures are left out where there is one."""
    import torch
    from torchmetrics.image import PeakSignalNoiseRatio, StructuralSimilarityIndexMeasure

    from common.evaluators.frechet import Inception
    from projects.vqrae.metrics import CodebookUsage, QuantisationError, fid, mean_colour
    from projects.vqrae.perceptual import PerceptualLoss, PerceptualNets

    tokenizer = trained.tokenizer
    nets = None if inception else PerceptualLoss(PerceptualNets(**trained.config["model"]["perceptual"])).convnext
    distance = fid(nets, Inception(str(inception)) if inception else None).to(trained.device)
    psnr, floor = (PeakSignalNoiseRatio(1.0, dim=(1, 2, 3)).to(trained.device) for _ in range(2))
    ssim = StructuralSimilarityIndexMeasure(data_range=1.0).to(trained.device)
    assert tokenizer.quantizer is not None
    usage = CodebookUsage(tokenizer.quantizer.codebook_size).to(trained.device)
    error = QuantisationError(tokenizer.quantizer.dim).to(trained.device)
    count = 0
    for paths, images in batches:
        pixels = trained.pixels(images)
        with torch.no_grad():
            out = tokenizer(pixels)
            error.update(tokenizer.to_codes(out.features), out.codes)
        made = out.images.float().clamp(0, 1)
        distance.update(pixels, real=True)
        distance.update(made, real=False)
        psnr.update(made, pixels)
        floor.update(mean_colour(pixels), pixels)
        ssim.update(made, pixels)
        usage.update(out.indices)
        count += len(paths)
    if not count:
        return {}
    found = {"pictures": count, "psnr": psnr.compute().item(), "psnr_floor": floor.compute().item()}
    if count > 1:
        found["rfid"] = distance.compute().item()
    found |= {"ssim": ssim.compute().item(), "quantisation_error": error.compute().item()}
    return found | {name: share.item() for name, share in usage.compute().items()}


@user_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; a user's error is one message and exit code 2."""
    options = parser().parse_args(arguments)
    if options.json is not None and not options.json.absolute().parent.is_dir():
        raise UserError(f"no folder {options.json.parent} to write into: create it first")
    batches = Batches(options.images, options.batch)
    found = measure(load_trained(options.run, options.device), batches, options.inception)
    for name, label in LABELS.items():
        if name in found:
            print(f"{label}: {found[name]:.4g}")
    if options.json is not None and found:
        write_atomic(options.json, (json.dumps(found, indent=1) + "\n").encode())
    return batches.code()


if __name__ == "__main__":
    sys.exit(main())
