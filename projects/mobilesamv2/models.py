"""The networks that a proposal comes from: SAM's decoder, one of three image encoders, a detector."""

from dataclasses import fields, replace
from pathlib import Path

from segment_anything.modeling import Sam

from common.errors import UserError
from common.models.sam import SamConfig, build_sam
from common.models.sam_checkpoint import segmenter_state
from common.models.tiny_vit import UNUSED_KEYS, TinyViT, TinyViTConfig
from common.paths import expand
from common.training.runs import settings_of
from common.training.weights import State, load_state, load_weights
from projects.mobilesamv2.detector import DetectorConfig, ObjectDetector
from projects.mobilesamv2.efficientvit import EfficientVitConfig, EfficientVitEncoder, from_official

Encoder = TinyViTConfig | EfficientVitConfig


def build_segmenter(sam: SamConfig, encoder: Encoder | None = None) -> Sam:
    """A SAM with random weights; `encoder` takes its ViT's place."""
    if isinstance(encoder, TinyViTConfig):
        return build_sam(sam, TinyViT(replace(encoder, image_size=sam.image_size)))
    if isinstance(encoder, EfficientVitConfig):
        return build_sam(sam, EfficientVitEncoder(replace(encoder, image_size=sam.image_size)))
    return build_sam(sam)


def load_segmenter(
    config: SamConfig, weights: str, encoder: Encoder | None = None, encoder_weights: str | None = None
) -> Sam:
    """A frozen SAM in evaluation mode: prompt encoder and mask decoder from `weights`, and so its image encoder, unless
    a distilled one is named (`mobile_sam.pt`, `l2.pt`, a foundation's)."""
    sam = build_segmenter(config, encoder)
    state = segmenter_state(expand(weights, "model.sam_weights"))
    load_weights(sam.prompt_encoder, state, prefix="prompt_encoder.")
    load_weights(sam.mask_decoder, state, prefix="mask_decoder.")
    if encoder is None:
        load_weights(sam.image_encoder, state, prefix="image_encoder.")
    elif encoder_weights is None:
        raise UserError("a distilled encoder needs its weights: give --model.encoder_weights")
    else:
        load_encoder(sam, load_state(expand(encoder_weights, "model.encoder_weights")))
    return sam.requires_grad_(False).eval()


def load_encoder(sam: Sam, state: State) -> None:
    """Fill the image encoder of a SAM from `mobile_sam.pt`, `l2.pt` or a foundation's weights."""
    if isinstance(sam.image_encoder, EfficientVitEncoder):
        load_weights(sam.image_encoder, from_official(state))
    else:
        load_weights(sam.image_encoder, state, prefix="image_encoder.", ignore=UNUSED_KEYS)


def load_detector(config: DetectorConfig, weights: str) -> ObjectDetector:
    """A frozen detector in evaluation mode, from a stage's weights."""
    detector = ObjectDetector(config)
    load_weights(detector, expand(weights, "model.detector_weights"))
    return detector.requires_grad_(False).eval()


def read_detector(weights: Path, image_size: int) -> ObjectDetector:
    """A detector from a run folder's `weights.safetensors`, with the sizes of the `config.yaml` beside it.

    Raises:
        UserError: one of the files is missing or of another stage, or the detector is for pictures of another size.
    """
    with settings_of(weights.parent) as config:
        sizes = config["model"]["detector"]
        values = {field.name: sizes[field.name] for field in fields(DetectorConfig) if field.name in sizes}
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        found = DetectorConfig(**values | {"image_size": config["data"]["image_size"]})
    if found.image_size != image_size:
        raise UserError(
            f"{weights} is a detector for pictures of {found.image_size} pixels, SAM's weights are for {image_size}: "
            "take those that belong together"
        )
    return load_detector(found, str(weights))
