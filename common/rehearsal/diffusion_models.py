"""Stand-ins for diffusion models: the real classes, kinds of blocks and latents (an eighth of the image); narrow."""

from pathlib import Path
from typing import Any

import diffusers
import transformers

from common.rehearsal import tokenizers
from common.rehearsal.text_models import SIZES, WIDTH, save, vocabulary

CHANNELS = (16, 16, 32, 32)
UNET = {
    "block_out_channels": CHANNELS,
    "layers_per_block": 1,  # the released ones have 2
    "norm_num_groups": 8,
    "cross_attention_dim": WIDTH,
    "sample_size": 64,
}
# Stable Diffusion's noise schedule
NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False}
NOISE |= {"num_train_timesteps": 1000, "steps_offset": 1, "set_alpha_to_one": False}
# Stable Diffusion 3's latents
SHIFTED = {"scaling_factor": 1.5305, "shift_factor": 0.0609, "use_quant_conv": False, "use_post_quant_conv": False}


def stable_diffusion(folder: Path, version: int = 1, prediction: str = "epsilon") -> None:
    """Stable Diffusion 1.x or 2.x; `prediction` is "epsilon" or "v_prediction"."""
    unet = diffusers.UNet2DConditionModel(**UNET, attention_head_dim=8, use_linear_projection=version == 2)
    pipeline = diffusers.StableDiffusionPipeline(
        **text_side(version),
        vae=vae(),
        unet=unet,
        scheduler=diffusers.DDIMScheduler(**NOISE, prediction_type=prediction),
        safety_checker=None,
        feature_extractor=transformers.CLIPImageProcessor(),
        requires_safety_checker=False,
    )
    save(folder, pipeline)


def stable_diffusion_3(folder: Path) -> None:
    """Stable Diffusion 3.5: a transformer over latents of 16 channels, two CLIPs and T5."""
    clips: dict[str, Any] = {}
    for suffix in ("", "_2"):
        tokenizer = tokenizers.clip_bpe(pad="!" if suffix else "<|endoftext|>")
        settings = transformers.CLIPTextConfig(
            **SIZES, **vocabulary(tokenizer), num_hidden_layers=2, projection_dim=WIDTH
        )
        clips[f"tokenizer{suffix}"] = tokenizer
        clips[f"text_encoder{suffix}"] = transformers.CLIPTextModelWithProjection(settings)
    words = tokenizers.unigram()
    both = 2 * WIDTH  # what the two CLIPs say, side by side, has T5's width at most
    t5 = transformers.T5Config(
        vocab_size=len(words), d_model=both, d_kv=16, d_ff=64, num_layers=2, num_heads=4, feed_forward_proj="gated-gelu"
    )
    transformer = diffusers.SD3Transformer2DModel(
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=both,
        caption_projection_dim=WIDTH,
        pooled_projection_dim=both,
        dual_attention_layers=(0,),
        qk_norm="rms_norm",
        pos_embed_max_size=96,
    )
    pipeline = diffusers.StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae(latent_channels=16, **SHIFTED),
        **clips,
        text_encoder_3=transformers.T5EncoderModel(t5),
        tokenizer_3=words,
    )
    save(folder, pipeline)


def text_to_video(folder: Path) -> None:
    """ModelScope's text-to-video: a 3-D U-Net with Stable Diffusion 2's text encoder; 16 frames.

    A level of each kind of the U-Net's four, and two layers of the text encoder's 23: what a rehearsal does with them
    costs time by the module.
    """
    unet = diffusers.UNet3DConditionModel(
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        **UNET | {"sample_size": 32, "block_out_channels": CHANNELS[1:3]},
        attention_head_dim=8,
    )
    scheduler = diffusers.DDIMScheduler(**NOISE)
    save(folder, diffusers.TextToVideoSDPipeline(**text_side(2, layers=2), vae=vae(), unet=unet, scheduler=scheduler))


def motion_adapter(folder: Path) -> None:
    """AnimateDiff's motion modules, for the U-Net of `stable_diffusion`; up to 32 frames."""
    adapter = diffusers.MotionAdapter(
        block_out_channels=CHANNELS,
        motion_layers_per_block=1,
        motion_num_attention_heads=2,
        motion_norm_num_groups=8,
        motion_max_seq_length=32,
        use_motion_mid_block=False,
    )
    save(folder, adapter)


def autoencoder(folder: Path) -> None:
    """Stable Diffusion's autoencoder alone."""
    save(folder, vae())


def vae(latent_channels: int = 4, **settings: object) -> diffusers.AutoencoderKL:
    """[B, 3, S, S] -> [B, latent_channels, S / 8, S / 8]."""
    return diffusers.AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        block_out_channels=(8, 8, 16, 16),
        norm_num_groups=4,
        latent_channels=latent_channels,
        **settings,
        sample_size=512,
    )


def text_side(version: int, layers: int | None = None) -> dict[str, object]:
    """CLIP's tokenizer and text encoder: ViT-L's in version 1, OpenCLIP's ViT-H without its last layer in version 2.

    Args:
        layers: None for the released one's.
    """
    tokenizer = tokenizers.clip_bpe(pad="!" if version == 2 else "<|endoftext|>")
    depth, activation = (23, "gelu") if version == 2 else (12, "quick_gelu")
    settings = transformers.CLIPTextConfig(
        **SIZES, **vocabulary(tokenizer), num_hidden_layers=layers or depth, hidden_act=activation, projection_dim=WIDTH
    )
    return {"tokenizer": tokenizer, "text_encoder": transformers.CLIPTextModel(settings)}
