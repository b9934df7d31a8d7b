"""Learn prompts of both towers of a CLIP from few labelled pictures: PromptSRC, the paper's stage I.

    python -m projects.promptkd.teach fit --config projects/promptkd/configs/mini/teach.yaml --model.clip FOLDER

The same training of the student's own CLIP is the supervised method that PromptKD is compared with.
"""

import copy
from typing import Any

import lightning.pytorch as L
import open_clip
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.cli import main
from common.evaluators.zero_shot import ZeroShot
from common.models.clip import load_clip, prompted_text
from projects.promptkd.data import DomainData, links_of_known
from projects.promptkd.losses import epoch_weights, promptsrc_terms
from projects.promptkd.model import SENTENCE, PromptedClip, Prompts
from projects.promptkd.schedule import OFFICIAL, Epochs, sgd

TEMPLATES = [template("{}") for template in open_clip.OPENAI_IMAGENET_TEMPLATES[:60]]
"""Sentences whose mean features prompts are held to; the official code has the first 60 of OpenAI's 80."""


class PromptTuning(L.LightningModule):
    """L = CE + text_weight L1(w, w_zs) + image_weight L1(u, u_zs) + KL(q_zs || q) / (B N), all but the prompts frozen.

    The prompts kept are the average over epochs, weighted by a normal density: late epochs, not the last ones.

    Args:
        clip: the CLIP, as `common.models.clip.load_clip` takes it.
        classes: names of the classes with labels, from the data.
        sentence: what a class's name, {}, is put into; the words before it are what the text prompts begin as. There
            are as many prompts as these have tokens, in both towers.
        depth: blocks of both towers whose input has prompts of its own.
        consistency: whether there are other terms than CE, and an average; without, only labels count.
        text_weight: of the class vectors' term.
        image_weight: of the pictures' term.
        templates: sentences of the class vectors w_zs without prompts; None for the official 60.
        average_mean: epoch around which prompts are averaged, counted from 1.
        average_std: how far, in epochs.
        optimiser: rate and schedule.
    """

    plain_vectors: Tensor
    epochs: Tensor

    def __init__(
        self,
        clip: str,
        classes: list[str],
        sentence: str = SENTENCE,
        depth: int = 9,
        consistency: bool = True,
        text_weight: float = 25.0,
        image_weight: float = 10.0,
        templates: list[str] | None = None,
        average_mean: float = 15.0,
        average_std: float = 1.0,
        optimiser: Epochs = OFFICIAL,
    ):
        super().__init__()
        self.consistency, self.text_weight, self.image_weight = consistency, text_weight, image_weight
        self.average_mean, self.average_std, self.optimiser = average_mean, average_std, optimiser
        self.model = PromptedClip(load_clip(clip), sentence, depth)
        self.average = copy.deepcopy(self.model.prompts).requires_grad_(False)
        self.register_buffer("epochs", torch.zeros((), dtype=torch.long))  # that are in it
        self.register_buffer("ids", self.model.tokens(classes), persistent=False)
        plain = torch.stack([self._plain(classes, template) for template in templates or TEMPLATES]).mean(0)
        self.register_buffer("plain_vectors", F.normalize(plain, dim=-1), persistent=False)

    @torch.no_grad()
    def _plain(self, classes: list[str], template: str) -> Tensor:
        """Features of one sentence for each class, not normalised: the official mean over sentences is of these."""
        net, ids = self.model.clip.net, self.model.tokens(classes, template)
        return prompted_text(net, ids, net.token_embedding(ids))

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        if self.epochs < self.current_epoch:  # here, and not when an epoch ends: a checkpoint may lie between
            self.average = self.averaged()
            self.epochs += 1
        images, vectors, clip = self.model.images(batch["image"]), self.model.vectors_of(self.ids), self.model.clip
        with torch.no_grad():
            plain = clip.images(batch["image"])
        terms = promptsrc_terms(images, vectors, plain, self.plain_vectors, batch["label"], clip.scale)
        loss = terms.total(self.text_weight, self.image_weight) if self.consistency else terms.labels
        self.log_dict({f"train/{name}": value for name, value in terms._asdict().items()} | {"train/loss": loss})
        return loss

    @torch.no_grad()
    def averaged(self) -> Prompts:
        """The average over the epochs so far, of which the last has ended just now."""
        weights = epoch_weights(self.trainer.max_epochs or 1, self.average_mean, self.average_std)
        weight, total = float(weights[self.epochs]), float(weights[: int(self.epochs) + 1].sum())
        found = copy.deepcopy(self.average)
        share = weight / total if weight else 0.0  # epochs far from the mean weigh nothing at all
        for kept, value in zip(found.parameters(), self.model.prompts.parameters(), strict=True):
            kept.lerp_(value, share)
        return found

    def on_validation_epoch_start(self) -> None:
        with torch.no_grad():
            self.right = ZeroShot(self.model.vectors_of(self.ids)).to(self.device)

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self.right.update(self.model.images(batch["image"]), batch["label"])

    def on_validation_epoch_end(self) -> None:
        self.log("val/base", self.right.compute())

    def configure_optimizers(self) -> Any:
        return sgd(self.model.prompts.parameters(), self.optimiser, self.trainer)

    def exported(self) -> nn.Module:
        return self.averaged() if self.consistency else self.model.prompts


if __name__ == "__main__":
    main(PromptTuning, DomainData, links=links_of_known)
