"""DeGLA's losses (section 3; the official src/open_clip/loss.py), and CE-CLIP's, which it is compared with.

A batch has B pictures, their captions, and K hard negatives of each caption. All vectors are unit vectors, and `scale`
is CLIP's learned e^s. Every loss looks at the batch of all processes, so with the mean of gradients that data parallel
training takes, it has the gradient of one process with that batch.
"""

from dataclasses import dataclass

import torch
from einops import rearrange
from pydantic import NonNegativeFloat
from torch import Tensor
from torch.nn import functional as F

from common.training.distributed import gather

Scale = float | Tensor


@dataclass
class Embedded:
    """What a network makes of a batch.

    Attributes:
        image: v, [B, D].
        text: t, of the captions, [B, D].
        negatives: of the captions' hard negatives, [B, K, D].
    """

    image: Tensor
    text: Tensor
    negatives: Tensor

    def gathered(self) -> "Embedded":
        """Those of all processes, in one exchange. The split also hands its gradient back as one plain block, which
        the exchange needs: it takes the rows of a permuted gradient, as `einsum` makes one of negatives, for others.
        """
        count = self.negatives.shape[1]
        parts = gather(torch.cat([self.image[:, None], self.text[:, None], self.negatives], 1))
        image, text, negatives = parts.split([1, 1, count], 1)
        return Embedded(image[:, 0], text[:, 0], negatives)

    @property
    def every(self) -> Tensor:
        """All vectors, [B (2 + K), D]."""
        return torch.cat([self.image, self.text, self.negatives.flatten(0, 1)])


@dataclass
class Weights:
    """Of the losses beside L_base. The first three are DeGLA's, the others CE-CLIP's.

    Attributes:
        igc: image-grounded contrast.
        tgc: text-grounded contrast.
        distillation: self-distillation, a sum over the batch: 0.005 is meant for 256 pictures with 5 texts each.
        ranking: cross-modal ranking with adaptive thresholds.
        intra_modal: intra-modal contrast.
    """

    igc: NonNegativeFloat = 0.1
    tgc: NonNegativeFloat = 0.1
    distillation: NonNegativeFloat = 0.005
    ranking: NonNegativeFloat = 0.0
    intra_modal: NonNegativeFloat = 0.0


def global_contrast(found: Embedded, scale: Scale) -> Tensor:
    """L_base, NegCLIP's: CLIP's loss in which pictures also see everybody's negatives.

    1/2 [ CE(s v_i . (t_1 ... t_N, all negatives), i) + CE(s t_i . (v_1 ... v_N), i) ], the mean over i.
    """
    own = torch.arange(len(found.image), device=found.image.device)
    texts = torch.cat([found.text, found.negatives.flatten(0, 1)])
    from_image = F.cross_entropy(scale * found.image @ texts.T, own)
    return (from_image + F.cross_entropy(scale * found.text @ found.image.T, own)) / 2


def self_distillation(found: Embedded, teacher: Embedded) -> Tensor:
    """L_dis: sum |x - x*|^2 over the vectors of pictures, captions and negatives. A sum: it grows with batch and K."""
    return (found.every - teacher.every.detach()).square().sum()


def local_contrast(anchor: Tensor, positive: Tensor, negatives: Tensor, scale: Scale) -> Tensor:
    """mean_i -log( e^{s a.p} / (e^{s a.p} + sum_k e^{s a.n_k}) ): an anchor against what is its own alone.

    Args:
        anchor, positive: [B, D].
        negatives: [B, K, D].
    """
    candidates = torch.cat([positive[:, None], negatives], 1)
    logits = scale * torch.einsum("b d, b k d -> b k", anchor, candidates)
    return F.cross_entropy(logits, torch.zeros(len(anchor), dtype=torch.long, device=anchor.device))


def image_grounded(found: Embedded, scale: Scale) -> Tensor:
    """L_igc: each picture against its own caption and its own negatives."""
    return local_contrast(found.image, found.text, found.negatives, scale)


def text_grounded(found: Embedded, teacher_text: Tensor, scale: float = 10.0, released: bool = False) -> Tensor:
    """L_tgc: each caption against the teacher's vector of the same caption and its own negatives.

    Args:
        teacher_text: t*, [B, D].
        scale: 1 / temperature, fixed.
        released: negatives as the official code pairs them by mistake, which takes the rows of `negatives` for those of
            an array in which the first negatives of all captions come first: caption i is held against negatives of
            the captions i // K, (B + i) // K, ... instead of its own.
    """
    negatives, count = found.negatives, found.negatives.shape[1]
    if released:
        negatives = rearrange(negatives.flatten(0, 1), "(k b) d -> b k d", k=count)
    return local_contrast(found.text, teacher_text.detach(), negatives, scale)


def ranking(found: Embedded, scale: Scale, threshold: Tensor) -> tuple[Tensor, Tensor]:
    """CE-CLIP's cross-modal ranking: mean max(0, s v.n_k - s v.t + threshold_k), and the gaps that follow it.

    Args:
        threshold: how far the k-th kind of negative should lie behind, in logits, [K]: the mean gap of the batch
            before, from 0 to a bound.

    Returns:
        the loss, and this batch's mean gap by kind, [K].
    """
    true = scale * (found.image * found.text).sum(-1)[:, None]
    gap = true - scale * torch.einsum("b d, b k d -> b k", found.image, found.negatives)
    return F.relu(threshold - gap).mean(), gap.detach().mean(0)


def intra_modal(found: Embedded, scale: Scale) -> Tensor:
    """CE-CLIP's intra-modal contrast: a picture's logit of its caption against that caption's logits of its negatives.

    mean_i -log( e^{s v.t} / (e^{s v.t} + sum_k e^{s t.n_k}) ).
    """
    true = scale * (found.image * found.text).sum(-1, keepdim=True)
    others = scale * torch.einsum("b d, b k d -> b k", found.text, found.negatives)
    own = torch.zeros(len(true), dtype=torch.long, device=true.device)
    return F.cross_entropy(torch.cat([true, others], 1), own)
