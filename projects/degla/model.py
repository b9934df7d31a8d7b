"""CLIP finetuned: what it makes of a batch of pictures, captions and negatives, and where its weights come from."""

from collections.abc import Sequence

from torch import Tensor, nn

from common.models.clip import Clip, load_clip
from common.paths import expand
from common.training.weights import load_weights
from projects.degla.losses import Embedded


def embed(clip: Clip, image: Tensor, texts: Tensor) -> Embedded:
    """Unit vectors in float32, whatever the precision.

    Args:
        image: [B, 3, S, S] in [0, 1].
        texts: ids of each picture's caption and its K negatives, [B, 1 + K, context].
    """
    found = clip.texts(texts.flatten(0, 1)).float().view(*texts.shape[:2], -1)
    return Embedded(clip.images(image).float(), found[:, 0], found[:, 1:])


def ids(clip: Clip, texts: Sequence[Sequence[str]]) -> Tensor:
    """Ids of B lists of equally many texts, [B, 1 + K, context]."""
    found = clip.tokens([text for group in texts for text in group])
    return found.view(len(texts), -1, found.shape[1])


def load_finetuned(source: str, weights: str | None) -> Clip:
    """A CLIP as it is published, or with the weights that finetuning has left.

    Args:
        source: what was finetuned, as `load_clip` takes it.
        weights: of a stage's run folder, or the official DeGLA.pt; None for those of `source`.
    """
    clip = load_clip(source)
    if weights is not None:
        load_weights(clip.net, expand(weights, "weights"))
    return clip


def decayed(net: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Parameters for AdamW: matrices decay; biases, norms, single tokens and the scale do not."""
    trained = [p for p in net.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
