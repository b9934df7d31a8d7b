"""Pipelines of diffusers with tiny networks, for the tests of Faster Diffusion."""

from types import SimpleNamespace

import diffusers
import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DDIMScheduler,
    DiTTransformer2DModel,
    MotionAdapter,
    PNDMScheduler,
    StableDiffusionControlNetPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
    UNet3DConditionModel,
)

from projects.faster_diffusion.propagate import Trajectory

STABLE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False}
STABLE |= {"steps_offset": 1, "set_alpha_to_one": False}
TEXT = 8
SIZES = {"block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4, "attention_head_dim": 4}
CROSS = {"cross_attention_dim": TEXT, "sample_size": 8}
BLOCKS_2D = {
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
}


def unet(**settings):
    torch.manual_seed(0)
    return UNet2DConditionModel(**SIZES, **CROSS, **BLOCKS_2D, **settings).eval()


def scheduler(kind=DDIMScheduler):
    return kind.from_config(
        DDIMScheduler(
            **STABLE,
        ).config,
        **({"skip_prk_steps": True} if kind is PNDMScheduler else {}),
    )


def groups(keys, total):
    """(start, length) of the groups that propagation itself goes by, on the way through so many steps."""
    steps = SimpleNamespace(timesteps=torch.arange(total).flip(0), order=1, num_inference_steps=total)
    way, found = Trajectory(SimpleNamespace(scheduler=steps), steps, keys), []
    for t in steps.timesteps:
        way.at(t)
        found += [(way.place, len(way.group))] if way.place in way.key else []
    return found


def quiet(pipe):
    pipe.set_progress_bar_config(disable=True)
    return pipe


def stable_diffusion(net=None, kind=DDIMScheduler):
    parts = {"vae": None, "text_encoder": None, "tokenizer": None, "feature_extractor": None, "safety_checker": None}
    found = StableDiffusionPipeline(
        **parts, unet=net or unet(), scheduler=scheduler(kind), requires_safety_checker=False
    )
    return quiet(found)


def embeddings(count=2, seed=1, width=TEXT, words=5):
    generator = torch.Generator().manual_seed(seed)
    names = ("prompt_embeds", "negative_prompt_embeds")
    return {name: torch.randn(count, words, width, generator=generator) for name in names}


def noise(*shape, seed=2):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def draw(pipe, steps=10, guidance=2.0, **more):
    """Latents of two pictures."""
    given = {"latents": noise(2, 4, 8, 8), "output_type": "latent", **embeddings(), **more}
    return pipe(num_inference_steps=steps, guidance_scale=guidance, **given).images


def sdxl():
    net = unet(
        addition_embed_type="text_time", addition_time_embed_dim=4, projection_class_embeddings_input_dim=TEXT + 24
    )
    parts = {"vae": None, "text_encoder": None, "text_encoder_2": None, "tokenizer": None, "tokenizer_2": None}
    pipe = quiet(diffusers.StableDiffusionXLPipeline(**parts, unet=net, scheduler=scheduler(), add_watermarker=False))
    given = embeddings() | {
        "pooled_prompt_embeds": noise(2, TEXT),
        "negative_pooled_prompt_embeds": noise(2, TEXT, seed=3),
        "latents": noise(2, 4, 8, 8),
        "output_type": "latent",
        "height": 64,
        "width": 64,
    }
    return pipe, lambda: pipe(num_inference_steps=10, guidance_scale=2.0, **given).images


def deepfloyd():
    """Stage I: pixels, a network that foresees variances too, DDPM's own noise at every step."""
    torch.manual_seed(0)
    net = UNet2DConditionModel(
        **SIZES,
        sample_size=8,
        in_channels=3,
        out_channels=6,
        cross_attention_dim=TEXT,
        encoder_hid_dim=TEXT,
        encoder_hid_dim_type="text_proj",
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        resnet_time_scale_shift="scale_shift",
        time_embedding_type="positional",
    ).eval()
    steps = diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2", variance_type="learned_range", thresholding=True)
    parts = {"text_encoder": None, "tokenizer": None, "safety_checker": None, "feature_extractor": None}
    pipe = quiet(
        diffusers.IFPipeline(**parts, watermarker=None, unet=net, scheduler=steps, requires_safety_checker=False)
    )

    def call():
        given = {"generator": torch.Generator().manual_seed(0), "output_type": "pt", **embeddings()}
        return pipe(num_inference_steps=10, guidance_scale=2.0, **given).images

    return pipe, call


def controlled():
    torch.manual_seed(0)
    net = unet()
    control = ControlNetModel.from_unet(net, conditioning_embedding_out_channels=(4, 4, 4, 4)).eval()
    for part in [*control.controlnet_down_blocks, control.controlnet_mid_block]:
        torch.nn.init.normal_(part.weight, std=0.1)  # they begin with zeros
    parts = {"vae": None, "text_encoder": None, "tokenizer": None, "feature_extractor": None, "safety_checker": None}
    pipe = quiet(
        StableDiffusionControlNetPipeline(
            **parts, unet=net, controlnet=control, scheduler=scheduler(), requires_safety_checker=False
        )
    )
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(4))
    return pipe, lambda: draw(pipe, image=picture, height=64, width=64)


def video():
    """ModelScope's: frames are a dimension of the latents."""
    torch.manual_seed(0)
    net = UNet3DConditionModel(
        **SIZES,
        **CROSS,
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
    ).eval()
    parts = {"vae": None, "text_encoder": None, "tokenizer": None}
    pipe = quiet(diffusers.TextToVideoSDPipeline(**parts, unet=net, scheduler=scheduler()))
    given = {"latents": noise(1, 4, 3, 8, 8), "num_frames": 3, "output_type": "latent", **embeddings(1)}
    return pipe, lambda: pipe(num_inference_steps=10, guidance_scale=2.0, height=64, width=64, **given).frames


def dit():
    """DiT: no U-Net; its first blocks are the encoder."""
    torch.manual_seed(0)
    net = DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=4,
        in_channels=4,
        out_channels=8,
        num_layers=6,
        sample_size=8,
        patch_size=2,
        num_embeds_ada_norm=1000,
    ).eval()
    for part in net.modules():
        if isinstance(part, torch.nn.Linear):
            torch.nn.init.normal_(part.weight, std=0.1)
    codec = AutoencoderKL(block_out_channels=(4,), norm_num_groups=2, layers_per_block=1)
    pipe = quiet(diffusers.DiTPipeline(net, codec, scheduler()))
    given = {"num_inference_steps": 10, "guidance_scale": 2.0, "output_type": "np"}
    return pipe, lambda: torch.tensor(pipe([1, 2], generator=torch.Generator().manual_seed(0), **given).images)


def animated():
    torch.manual_seed(0)
    adapter = MotionAdapter(
        block_out_channels=(8, 16),
        motion_layers_per_block=1,
        motion_num_attention_heads=2,
        motion_norm_num_groups=4,
        motion_max_seq_length=8,
    )
    parts = {"vae": None, "text_encoder": None, "tokenizer": None}
    pipe = quiet(diffusers.AnimateDiffPipeline(**parts, unet=unet(), motion_adapter=adapter, scheduler=scheduler()))
    given = {"latents": noise(1, 4, 3, 8, 8), "num_frames": 3, "output_type": "latent", **embeddings(1)}
    return pipe, lambda: pipe(num_inference_steps=10, guidance_scale=2.0, height=64, width=64, **given).frames
