"""SAM (Kirillov et al. 2023) at any size, from `segment_anything`'s own classes, and the way in and out of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from einops import rearrange
from PIL import Image
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from common.data.prompts import Prompts
from common.errors import UserError, unknown

PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)


@dataclass(frozen=True)
class SamConfig:
    """Sizes of SAM; the defaults are ViT-H at 1024 pixels.

    Args:
        image_size: side of the padded square input, pixels.
        patch_size: pixels per token of the image embedding.
        embed_dim: width of the ViT image encoder.
        depth: its blocks.
        num_heads: its attention heads.
        global_attn_indexes: its blocks with global attention; the others attend within windows.
        window_size: side of those windows, tokens.
        mlp_ratio: hidden width of the ViT's MLP over its width.
        prompt_dim: channels of image embedding, prompts and decoder.
        mask_in_chans: hidden channels of the mask prompt's encoder.
        num_masks: masks for an ambiguous prompt, beside the single one.
        decoder_depth: layers of the two-way transformer.
        decoder_mlp_dim: hidden width of its MLPs.
        decoder_heads: its attention heads; they must divide prompt_dim / 2.
        iou_head_depth: layers of the head that predicts a mask's IoU.
        iou_head_hidden: its hidden width.
    """

    image_size: int = 1024
    patch_size: int = 16
    embed_dim: int = 1280
    depth: int = 32
    num_heads: int = 16
    global_attn_indexes: tuple[int, ...] = (7, 15, 23, 31)
    window_size: int = 14
    mlp_ratio: float = 4.0
    prompt_dim: int = 256
    mask_in_chans: int = 16
    num_masks: int = 3
    decoder_depth: int = 2
    decoder_mlp_dim: int = 2048
    decoder_heads: int = 8
    iou_head_depth: int = 3
    iou_head_hidden: int = 256

    def __post_init__(self) -> None:
        for number, divisor, what in (
            (self.image_size, self.patch_size, "image_size must be a multiple of patch_size"),
            (self.embed_dim, self.num_heads, "embed_dim must be a multiple of num_heads"),
            (self.prompt_dim, 8, "prompt_dim must be a multiple of 8 (the decoder's upscaling divides it)"),
            (self.prompt_dim, 2 * self.decoder_heads, "prompt_dim / 2 must be a multiple of decoder_heads"),
            (self.mask_in_chans, 4, "mask_in_chans must be a multiple of 4"),
        ):
            if number % divisor:
                raise UserError(f"SamConfig: {what}: {self}")

    @property
    def embedding_size(self) -> int:
        """Side of the image embedding in tokens: 64 at 1024 pixels. Low-resolution masks are four times as large."""
        return self.image_size // self.patch_size

    @classmethod
    def named(cls, name: str) -> "SamConfig":
        """The published sizes: 'vit_h', 'vit_l' or 'vit_b'. UserError for another name."""
        if name not in PUBLISHED:
            raise unknown("SAM size", name, PUBLISHED)
        return PUBLISHED[name]


PUBLISHED = {
    "vit_h": SamConfig(),
    "vit_l": SamConfig(embed_dim=1024, depth=24, global_attn_indexes=(5, 11, 17, 23)),
    "vit_b": SamConfig(embed_dim=768, depth=12, num_heads=12, global_attn_indexes=(2, 5, 8, 11)),
}


def build_sam(config: SamConfig, image_encoder: nn.Module | None = None) -> Sam:
    """A SAM with random weights.

    Args:
        image_encoder: takes the ViT's place: [B, 3, S, S] -> [B, prompt_dim, S/patch_size, S/patch_size], with an
            attribute `img_size` equal to `config.image_size`.
    """
    if image_encoder is None:
        image_encoder = ImageEncoderViT(
            img_size=config.image_size,
            patch_size=config.patch_size,
            embed_dim=config.embed_dim,
            depth=config.depth,
            num_heads=config.num_heads,
            mlp_ratio=config.mlp_ratio,
            out_chans=config.prompt_dim,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=config.window_size,
            global_attn_indexes=config.global_attn_indexes,
        )
    elif image_encoder.img_size != config.image_size:
        raise UserError(f"image encoder for {image_encoder.img_size} pixels in a SAM for {config.image_size}")
    grid = (config.embedding_size, config.embedding_size)
    transformer = TwoWayTransformer(
        depth=config.decoder_depth,
        embedding_dim=config.prompt_dim,
        num_heads=config.decoder_heads,
        mlp_dim=config.decoder_mlp_dim,
    )
    return Sam(
        image_encoder=image_encoder,
        prompt_encoder=PromptEncoder(
            embed_dim=config.prompt_dim,
            image_embedding_size=grid,
            input_image_size=(config.image_size, config.image_size),
            mask_in_chans=config.mask_in_chans,
        ),
        mask_decoder=MaskDecoder(
            transformer_dim=config.prompt_dim,
            transformer=transformer,
            num_multimask_outputs=config.num_masks,
            iou_head_depth=config.iou_head_depth,
            iou_head_hidden_dim=config.iou_head_hidden,
        ),
        pixel_mean=list(PIXEL_MEAN),
        pixel_std=list(PIXEL_STD),
    )


def resized_shape(height: int, width: int, image_size: int) -> tuple[int, int]:
    """(h, w) of an image after scaling its longer side to `image_size` pixels; halves are rounded up."""
    scale = image_size / max(height, width)
    return int(height * scale + 0.5), int(width * scale + 0.5)


def resize_longest_side(image: np.ndarray, image_size: int) -> np.ndarray:
    """uint8 [H, W, 3] -> uint8 [h, w, 3] of `resized_shape`: bilinear with antialiasing, on the grey levels (PIL)."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"an image is uint8 [H, W, 3], not {image.dtype} {list(image.shape)}")
    height, width = resized_shape(image.shape[0], image.shape[1], image_size)
    return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def at_resolution(state: Mapping[str, Tensor], sam: Sam) -> dict[str, Tensor]:
    """Weights of a ViT SAM for another image size: its position tables, resized to those of `sam`.

    Absolute positions [1, h, w, C] and, in blocks with global attention, relative ones [2h - 1, C] follow the size of
    the token grid; all other weights are taken as they are.
    """
    wanted = sam.state_dict()
    resized = dict(state)
    for name, table in state.items():
        size = wanted[name].shape if name in wanted else table.shape
        if name == "image_encoder.pos_embed":
            grid = rearrange(table, "1 h w c -> 1 c h w")
            grid = F.interpolate(grid, size=size[1:3], mode="bilinear", align_corners=False, antialias=True)
            resized[name] = rearrange(grid, "1 c h w -> 1 h w c")
        elif "rel_pos" in name and table.shape != size:
            line = F.interpolate(rearrange(table, "n c -> 1 c n"), size=size[0], mode="linear", align_corners=True)
            resized[name] = rearrange(line, "1 c n -> n c")
    return resized


def preprocess(image: np.ndarray, image_size: int) -> tuple[Tensor, tuple[int, int]]:
    """SAM's input: resize the longer side, normalise, then pad with zeros at right and bottom.

    Padding comes last, so it has the mean colour.

    Args:
        image: RGB uint8 [H, W, 3].

    Returns:
        float32 [3, S, S], and (h, w) of the area that shows the image.
    """
    resized = resize_longest_side(image, image_size)
    height, width = resized.shape[:2]
    pixels = torch.from_numpy(resized).permute(2, 0, 1).float()
    pixels = (pixels - torch.tensor(PIXEL_MEAN).view(3, 1, 1)) / torch.tensor(PIXEL_STD).view(3, 1, 1)
    return F.pad(pixels, (0, image_size - width, 0, image_size - height)), (height, width)


def scale_points(points: np.ndarray, original_size: tuple[int, int], image_size: int) -> np.ndarray:
    """(x, y) [..., 2] of an image of `original_size` (H, W) -> the same places in its preprocessed form, [..., 2]."""
    height, width = resized_shape(*original_size, image_size)
    return points * np.array([width / original_size[1], height / original_size[0]])


def scale_boxes(boxes: np.ndarray, original_size: tuple[int, int], image_size: int) -> np.ndarray:
    """(x0, y0, x1, y1) [..., 4] -> the same boxes in the preprocessed image, [..., 4]; see `scale_points`."""
    corners = boxes.reshape(*boxes.shape[:-1], 2, 2)
    return scale_points(corners, original_size, image_size).reshape(boxes.shape)


def postprocess_masks(
    logits: Tensor, image_size: int, input_size: tuple[int, int], original_size: tuple[int, int]
) -> Tensor:
    """Low-resolution logits of one image -> logits at its own resolution; a mask is where they exceed 0.

    Args:
        logits: [N, M, h, w], covering the padded square.
        input_size: (h, w) of the area that shows the image, from `preprocess`.
        original_size: (H, W) of the image itself.

    Returns:
        [N, M, H, W].
    """
    resize = partial(F.interpolate, mode="bilinear", align_corners=False)
    height, width = input_size
    square = resize(logits, size=(image_size, image_size))
    return resize(square[..., :height, :width], size=tuple(original_size))


def predict_masks(sam: Sam, embeddings: Tensor, prompts: Prompts, multimask: bool) -> tuple[Tensor, Tensor]:
    """Masks for prompts of several images in one pass through prompt encoder and mask decoder.

    Args:
        embeddings: of the images, [B, C, h, w].
        prompts: N prompt sets in the frame of the preprocessed images; `prompts.image` tells each set's row in B.
        multimask: answer with the `num_masks` masks for ambiguous prompts instead of the single one.

    Returns:
        mask logits [N, M, 4h, 4w] and predicted IoU [N, M]; M is `num_masks`, or 1.
    """
    points = (prompts.coords, prompts.labels) if prompts.coords.shape[1] else None
    sparse, dense = sam.prompt_encoder(points=points, boxes=prompts.boxes, masks=None)
    # MaskDecoder pairs one image with all prompts. It adds the dense prompt embedding, one for each prompt, to that
    # image's embedding: so the gathered image embeddings travel with the dense prompts, beside an image of zeros.
    gathered = embeddings.index_select(0, prompts.image)
    return sam.mask_decoder(
        image_embeddings=torch.zeros_like(embeddings[:1]),
        image_pe=sam.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense + gathered,
        multimask_output=multimask,
    )
