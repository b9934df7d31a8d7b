"""Judge captions by the pictures that a text-to-image model draws from them (§4.2; Tables 1, 4 right, 5 and 7).

python -m projects.vlv.evaluate test --config projects/vlv/configs/mini/evaluate.yaml --model.weights <stage 2's>
"""

from typing import Any, Literal

import lightning.pytorch as L
import torch
from diffusers import StableDiffusion3Pipeline
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from common.cli import main, one_seed
from common.data.images import to_uint8
from common.errors import UserError
from common.evaluators.frechet import Inception, frechet_distance
from common.hub import from_pretrained
from common.models.text_to_image import load_text_to_image
from common.training.runs import save_picture
from common.visual import enlarge
from projects.vlv.captions import clean_up
from projects.vlv.data import JudgedPictures
from projects.vlv.measures import drawn_slots, mean_slots
from projects.vlv.model import Florence, build_captioner
from projects.vlv.released import load_captioner


class Evaluation(L.LightningModule):
    """Captions of the test pictures, and pictures of the captions.

    With Inception `fid_<guidance>` compares the drawn pictures with the originals. Without it the pictures are those of
    the world of glyphs, whose captions can be marked: `slots` is the share of a caption's six words that are right,
    `drawn_slots` and `drawn_mse` say whether the picture drawn from it shows what the original shows; `val_slots` and
    `val_drawn_slots` are the same on validation pictures. `captions_cut` is the share of captions of which the drawer
    did not read the end.

    Args:
        florence: what the encoder started from.
        text_to_image: hub id or folder of the diffusion model whose text encoder is T.
        language_model: hub id or folder of G.
        queries: N_q.
        weights: the trained captioner, a file, or released ones (see `released.py`); not needed for the data's own
            captions.
        captions: whose captions are judged, the model's or the data's own (the bound that a captioner aims at).
        drawer: hub id of a Stable Diffusion 3 or 3.5 that draws; None for `text_to_image` itself.
        drawer_tokens: how many tokens of a caption the drawer's T5 reads, 512 at most; diffusers' own cut is at 256.
        inception: for FID; None for the world of glyphs.
        guidance: scales of classifier-free guidance.
        steps: of the solver.
        size: side of the drawn pictures, in pixels.
        beams: of the beam search.
        max_tokens: longest caption.
        pictures: how many are kept for the report.
    """

    def __init__(
        self,
        florence: Florence,
        text_to_image: str,
        language_model: str,
        queries: PositiveInt = 77,
        weights: str | None = None,
        captions: Literal["model", "data"] = "model",
        drawer: str | None = None,
        drawer_tokens: PositiveInt = 256,
        inception: Inception | None = None,
        guidance: tuple[float, ...] = (2.0,),
        steps: PositiveInt = 40,
        size: PositiveInt = 512,
        beams: PositiveInt = 4,
        max_tokens: PositiveInt = 300,
        pictures: NonNegativeInt = 8,
    ):
        super().__init__()
        self.captioner: nn.Module | None = None
        if captions == "model":
            if weights is None:
                raise UserError("nothing to judge: give --model.weights (stage 2's), or --model.captions data")
            self.captioner = build_captioner(florence, text_to_image, language_model, queries, pretrained=False)
            load_captioner(self.captioner, weights)
        self.t2i = load_text_to_image(text_to_image) if drawer is None else None
        self.pipeline = load_pipeline(drawer) if drawer is not None else None
        self.requires_grad_(False).eval()
        self.guidance, self.steps, self.size, self.drawer_tokens = guidance, steps, size, drawer_tokens
        self.beams, self.max_tokens, self.pictures = beams, max_tokens, pictures
        self.fid = nn.ModuleList([frechet_distance(inception) for _ in guidance if inception])

    def on_test_start(self) -> None:
        if self.pipeline is not None:
            self.pipeline.to(self.device)

    def describe(self, batch: dict[str, Any]) -> list[str]:
        if self.captioner is None:
            return batch["caption"]
        return [clean_up(text) for text in self.captioner.generate(batch["image"], self.beams, self.max_tokens)]

    def draw(self, captions: list[str], guidance: float, seed: int) -> Tensor:
        """[B, 3, S, S] in [0, 1]."""
        noise = torch.Generator().manual_seed(seed)
        if self.t2i is not None:
            return self.t2i.sample(self.t2i.encode_text(captions), self.steps, guidance, "ddim", generator=noise)
        drawn = self.pipeline(
            captions,
            num_inference_steps=self.steps,
            guidance_scale=guidance,
            height=self.size,
            width=self.size,
            max_sequence_length=self.drawer_tokens,
            generator=noise,
            output_type="pt",
        )
        return drawn.images.float()

    def test_step(self, batch: dict[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        """A batch of the test's pictures; or of the validation's, from the second loader."""
        images, captions = batch["image"], self.describe(batch)
        if self.pipeline is not None:
            self.log("test/captions_cut", self.cut(captions), batch_size=len(images))
        for number, guidance in enumerate(self.guidance):
            drawn = self.draw(captions, guidance, seed=batch_idx)
            if self.fid:
                self.fid[number].update(images, real=True)
                self.fid[number].update(drawn, real=False)
            elif number == 0:
                self.mark(captions, drawn, batch, "val_" if dataloader_idx else "")
            if batch_idx == number == dataloader_idx == 0:
                self.show(images, drawn, captions)

    def mark(self, captions: list[str], drawn: Tensor, batch: dict[str, Any], split: str) -> None:
        """Log what captions and drawn pictures of the world of glyphs say of the originals."""
        truths = batch["caption"]
        found = {"slots": mean_slots(captions, truths), "drawn_slots": drawn_slots(drawn, truths)}
        if not split:
            found["drawn_mse"] = F.mse_loss(drawn, batch["image"]).item()
        for name, value in found.items():
            self.log(f"test/{split}{name}", value, batch_size=len(captions), add_dataloader_idx=False)

    def cut(self, captions: list[str]) -> float:
        """Share of captions that are longer than what the drawer reads of them."""
        tokens = self.pipeline.tokenizer_3(captions).input_ids
        return sum(len(ids) > self.drawer_tokens for ids in tokens) / len(captions)

    def show(self, images: Tensor, drawn: Tensor, captions: list[str]) -> None:
        for k, (original, picture) in enumerate(zip(to_uint8(images), to_uint8(drawn), strict=True)):
            if k < self.pictures:
                key = f"drawn {k + 1}"
                save_picture(self.run_dir, key, enlarge(original, 96)[0], "original", reference=True)
                save_picture(self.run_dir, key, enlarge(picture, 96)[0], captions[k])

    def on_test_epoch_end(self) -> None:
        for guidance, metric in zip(self.guidance, self.fid, strict=False):
            self.log(f"test/fid_{guidance:g}".replace(".", "_"), metric.compute().float())
        if self.captioner is not None:
            self.log("test/params", float(sum(p.numel() for p in self.captioner.parameters())))


def load_pipeline(hub: str) -> StableDiffusion3Pipeline:
    """Stable Diffusion 3 or 3.5 in half precision; UserError where there is none, or its licence is not accepted."""
    pipeline = from_pretrained(StableDiffusion3Pipeline, hub, torch_dtype=torch.bfloat16)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


if __name__ == "__main__":
    main(Evaluation, JudgedPictures, links=one_seed)
