"""Teacher and student of guidance distillation: one U-Net with updates of low rank, or two U-Nets.

pair = Pair(unet, Lora(rank=4, gaussian=True))
target = pair.guided(z_t, t, c, empty, w)    # e_u + w (e_c - e_u), two evaluations, no gradient
loss = F.mse_loss(pair.student(z_t, t, c).sample, target)
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from common.models.lora import Lora, add_lora, merged, trained_part, without_lora
from common.models.text_to_image import guided
from common.training.weights import State, load_weights

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
"""The projections of every self- and cross-attention."""


class Pair(nn.Module):
    """A frozen teacher eps_phi and a student that starts as its equal.

    With `lora` both are one network: the student is eps_(phi + Delta), the teacher the same with Delta switched off.
    Without, the student is a copy of the whole network, all of which is trained: conventional distillation.

    Attributes:
        student: z_t [B, C, h, w], t [B], context [B, N, d] -> what the schedule says that it predicts.
        frozen: the teacher's own network; None where it is the student's.
    """

    def __init__(self, unet: UNet2DConditionModel, lora: Lora | None):
        super().__init__()
        unet.requires_grad_(False).eval()
        self.frozen = None if lora else unet
        self.student = add_lora(unet, lora, ATTENTION) if lora else copy.deepcopy(unet).requires_grad_(True)

    @contextmanager
    def teacher(self) -> Iterator[UNet2DConditionModel]:
        """The teacher's network, without gradients."""
        with torch.no_grad():
            if self.frozen is not None:
                yield self.frozen
            else:
                with without_lora(self.student):
                    yield self.student

    def predictions(self, noisy: Tensor, t: Tensor, context: Tensor, empty: Tensor) -> tuple[Tensor, Tensor]:
        """The teacher's for a context and for the empty text, in one batch of two halves as pipelines have it.

        Args:
            noisy: z_t, [B, C, h, w].
            t: [B].
            context: c, [B, N, d].
            empty: context of "", [1, N, d].
        """
        both = torch.cat([context, empty.expand_as(context)])
        with self.teacher() as unet:
            conditional, unconditional = unet(noisy.repeat(2, 1, 1, 1), t.repeat(2), both).sample.chunk(2)
        return conditional, unconditional

    def guided(self, noisy: Tensor, t: Tensor, context: Tensor, empty: Tensor, scale: float) -> Tensor:
        """The target e_u + w (e_c - e_u)."""
        return guided(*self.predictions(noisy, t, context, empty), scale)


def distillation_loss(student: Tensor, target: Tensor) -> Tensor:
    """Mean over everything of (e_S - e_T)^2. There is no term of the noise itself."""
    return nn.functional.mse_loss(student.float(), target.float())


def load_student(unet: UNet2DConditionModel, lora: Lora | None, weights: State | str) -> UNet2DConditionModel:
    """A distilled U-Net for sampling, updates merged: one call a step, of the same class and cost as its teacher.

    Args:
        unet: the teacher's, whose place the student takes.
        lora: of the distillation; None where all weights were trained.
        weights: what the distillation left, `weights.safetensors`.

    Raises:
        UserError: no such file, or weights of another student.
    """
    if lora is None:
        return load_weights(unet, weights).requires_grad_(False).eval()
    load_weights(trained_part(add_lora(unet, lora, ATTENTION)), weights)
    return merged(unet).requires_grad_(False).eval()
