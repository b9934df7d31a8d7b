"""Draw pictures for captions with the autoregressive prior, and judge them.

python -m projects.vqrae.sample test --config projects/vqrae/configs/mini/sample.yaml --model.weights <the prior's> ...
"""

import json
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from common.cli import main, one_seed
from common.data.images import PictureData, to_uint8
from common.data.worlds.shape_crops import colour_of
from common.data.worlds.shape_layout import COLOURS
from common.evaluators.frechet import Inception
from common.training.runs import save_picture
from projects.vqrae.captions import read_prompts
from projects.vqrae.encoder import EncoderConfig, grid
from projects.vqrae.harness.pictures import strip
from projects.vqrae.metrics import fid
from projects.vqrae.model import Codebook
from projects.vqrae.perceptual import LogitDistance, PerceptualLoss, PerceptualNets
from projects.vqrae.prior import LanguageModel, load_prior, load_tokenizer

IMAGES_PER_PROMPT = 4  # of GenEval and of DPG-Bench


class Sampling(L.LightningModule):
    """Pictures for the captions of the test set, and for benchmarks' lists of prompts.

    `gfid` compares them with the test set's own pictures. On the world of shapes a judge, the perceptual ConvNeXt,
    says how often shape and colour are those of the caption (`drawn_shape`, `drawn_colour`), and as an upper bound how
    often it finds them in the tokenizer's reconstructions (`reconstructed_shape`, `reconstructed_colour`). With
    `data.val` these are measured there too, for the premises of claims.

    Args:
        encoder: the tokenizer's ViT.
        codebook: the tokenizer's quantiser.
        tokenizer_weights: the trained tokenizer.
        language_model: the prior.
        weights: the trained prior.
        perceptual: the judge, and where Inception is not given the features of gFID; None without either.
        inception: for gFID.
        temperature: of sampling.
        top_k: draw from the so many likeliest codes; None for all.
        guidance: scale of classifier-free guidance, 1 for none.
        prompts: lists of prompts by name: GenEval's jsonl, DPG-Bench's folder. Pictures for them go into folders of
            these names in the run folder, as the benchmarks' own evaluation expects them.
        pictures: how many are kept for the report.
    """

    def __init__(
        self,
        encoder: EncoderConfig,
        codebook: Codebook,
        tokenizer_weights: str,
        language_model: LanguageModel,
        weights: str,
        perceptual: PerceptualNets | None = None,
        inception: Inception | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        guidance: float = 1.0,
        prompts: dict[str, str] | None = None,
        pictures: int = 12,
    ):
        super().__init__()
        self.tokenizer = load_tokenizer(encoder, codebook, tokenizer_weights)
        self.prior = load_prior(language_model, codebook.size, weights)
        self.judge = PerceptualLoss(perceptual).convnext if perceptual else None
        self.fid = fid(self.judge, inception)
        self.temperature, self.top_k, self.guidance, self.pictures = temperature, top_k, guidance, pictures
        self.prompts = {name: read_prompts(path) for name, path in (prompts or {}).items()}
        self.count = grid(self.tokenizer.encoder.vit.config) ** 2

    @torch.no_grad()
    def draw(self, captions: list[str]) -> Tensor:
        """A picture for each caption, [B, 3, S, S] in [0, 1]."""
        indices = self.prior.sample(captions, self.count, self.temperature, self.top_k, self.guidance)
        return self.tokenizer.decode_indices(indices).float().clamp(0, 1)

    def again(self, images: Tensor) -> Tensor:
        """The tokenizer's reconstructions of pictures [B, 3, S, S]."""
        return self.tokenizer(images).images.float().clamp(0, 1)

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        drawn = self.draw(batch["caption"])
        self.fid.update(batch["image"], real=True)
        self.fid.update(drawn, real=False)
        if self.judge is not None:
            for name, images in (("drawn", drawn), ("reconstructed", self.again(batch["image"]))):
                for kind, hits in judged(self.judge, images, batch["label"], batch["caption"]).items():
                    self.log(f"test/{name}_{kind}", hits.float().mean(), batch_size=len(hits))
        if batch_idx == 0:
            shown = ", ".join(batch["caption"][: self.pictures])
            save_picture(self.run_dir, "samples", strip(to_uint8(drawn[: self.pictures])), f"drawn for: {shown}")

    def on_test_epoch_end(self) -> None:
        self.log("test/gfid", self.fid.compute().float())
        if self.judge is not None and "val" in self.trainer.datamodule.sources:
            self.validate_premises(self.judge)
        for name, prompts in self.prompts.items():
            for number, known in enumerate(prompts):
                folder = self.run_dir / name
                write_benchmark(folder, number, known, to_uint8(self.draw([known["prompt"]] * IMAGES_PER_PROMPT)))

    def validate_premises(self, judge: LogitDistance) -> None:
        """`reconstructed_shape_val` and `reconstructed_colour_val`, of the validation pictures."""
        found: dict[str, list[Tensor]] = {"shape": [], "colour": []}
        for batch in self.trainer.datamodule.ordered("val"):
            images = self.again(batch["image"].to(self.device))
            for kind, hits in judged(judge, images, batch["label"].to(self.device), batch["caption"]).items():
                found[kind].append(hits)
        for kind, parts in found.items():
            self.log(f"test/reconstructed_{kind}_val", torch.cat(parts).float().mean())


def judged(judge: LogitDistance, images: Tensor, labels: Tensor, captions: list[str]) -> dict[str, Tensor]:
    """Whether a judge of shapes and colours sees what a caption names: bool [B] for each."""
    both = judge.logits(images).softmax(1).unflatten(1, (-1, len(COLOURS)))
    colours = torch.tensor([colour_of(caption) for caption in captions], device=labels.device)
    return {"shape": both.sum(2).argmax(1) == labels, "colour": both.sum(1).argmax(1) == colours}


def write_benchmark(folder: Path, number: int, known: dict[str, Any], images: np.ndarray) -> None:
    """Four pictures uint8 [4, H, W, 3] of one prompt, where a benchmark's evaluation looks for them.

    GenEval: `<number>/metadata.jsonl` and `<number>/samples/<k>.png`. DPG-Bench, whose prompts have names:
    `<name>.png`, the four in a square.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if "name" in known:
        rows = np.concatenate([np.concatenate([images[k], images[k + 1]], 1) for k in (0, 2)], 0)
        Image.fromarray(rows).save(folder / f"{known['name']}.png")
        return
    samples = folder / f"{number:05d}" / "samples"
    samples.mkdir(parents=True, exist_ok=True)
    (samples.parent / "metadata.jsonl").write_text(json.dumps(known), encoding="utf-8")
    for k, image in enumerate(images):
        Image.fromarray(image).save(samples / f"{k:04d}.png")


if __name__ == "__main__":
    main(Sampling, PictureData, links=one_seed)
