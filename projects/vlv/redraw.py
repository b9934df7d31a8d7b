"""Draw pictures again from nothing but their caption embeddings: what stage 1 has learned (Table 4 left, Table 5).

python -m projects.vlv.redraw test --config projects/vlv/configs/mini/redraw.yaml --model.weights <stage 1's>
"""

from typing import Any

import lightning.pytorch as L
import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from common.cli import main, one_seed
from common.data.images import to_uint8
from common.evaluators.frechet import Inception, frechet_distance
from common.models.text_to_image import Solver, load_text_to_image
from common.training.runs import save_picture
from common.visual import enlarge
from projects.vlv.data import JudgedPictures
from projects.vlv.measures import drawn_slots
from projects.vlv.model import Florence, build_encoder
from projects.vlv.released import load_encoder


class Redrawing(L.LightningModule):
    """The frozen diffusion model's pictures for c = T(z), against the ones that z describes.

    `loss_own` and `loss_shuffled` are the denoising losses with a picture's own embeddings and with another's, at the
    same t and noise for every model. With Inception `fid_<guidance>` is measured; without it, on the world of glyphs,
    `redrawn_slots` and `redrawn_mse`. Names that begin with `val_` are of validation pictures.

    Args:
        florence: what the encoder started from.
        text_to_image: hub id or folder of the diffusion model.
        weights: the trained encoder.
        queries: N_q.
        inception: for FID; None for the world of glyphs.
        guidance: scales of classifier-free guidance.
        steps: of the solver.
        solver: of the reverse process.
        pictures: how many are kept for the report.
    """

    def __init__(
        self,
        florence: Florence,
        text_to_image: str,
        weights: str,
        queries: PositiveInt = 77,
        inception: Inception | None = None,
        guidance: tuple[float, ...] = (2.0,),
        steps: PositiveInt = 50,
        solver: Solver = "ddpm",
        pictures: NonNegativeInt = 8,
    ):
        super().__init__()
        self.t2i = load_text_to_image(text_to_image)
        self.encoder = build_encoder(florence, queries, self.t2i.text_encoder.config, pretrained=False)
        load_encoder(self.encoder, weights)
        self.requires_grad_(False).eval()
        self.guidance, self.steps, self.pictures = guidance, steps, pictures
        self.solver: Solver = solver
        self.fid = nn.ModuleDict(
            {f"{g:g}".replace(".", "_"): frechet_distance(inception) for g in guidance if inception}
        )

    def test_step(self, batch: dict[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        """A batch of the test's pictures; or of the validation's, from the second loader."""
        images, size = batch["image"], batch["image"].shape[-1]
        split = "val_" if dataloader_idx else ""
        context = self.t2i.encode_embeddings(self.encoder(images))
        found: dict[str, float] = {}
        for name, given in {"own": context, "shuffled": context.roll(1, 0)}.items():
            found[f"loss_{name}"] = self.t2i.denoising_loss(
                images, given, torch.Generator().manual_seed(batch_idx)
            ).item()
        for number, guidance in enumerate(self.guidance):
            noise = torch.Generator().manual_seed(batch_idx)
            drawn = self.t2i.sample(context, self.steps, guidance, self.solver, size, noise)
            if self.fid:
                self.fid[f"{guidance:g}".replace(".", "_")].update(images, real=True)
                self.fid[f"{guidance:g}".replace(".", "_")].update(drawn, real=False)
            elif number == 0:
                found["redrawn_slots"] = drawn_slots(drawn, batch["caption"])
                found["redrawn_mse"] = F.mse_loss(drawn, images).item()
            if batch_idx == number == dataloader_idx == 0:
                self.show(images, drawn)
        for name, value in found.items():
            self.log(f"test/{split}{name}", value, batch_size=len(images), add_dataloader_idx=False)

    def show(self, images: Tensor, drawn: Tensor) -> None:
        for kind, pictures in {"original": images, "drawn again from its embeddings": drawn}.items():
            for k, picture in enumerate(to_uint8(pictures[: self.pictures])):
                save_picture(self.run_dir, f"redrawn {k + 1}", enlarge(picture, 96)[0], kind, kind == "original")

    def on_test_epoch_end(self) -> None:
        for guidance, metric in self.fid.items():
            self.log(f"test/redrawn_fid_{guidance}", metric.compute().float())


if __name__ == "__main__":
    main(Redrawing, JudgedPictures, links=one_seed)
