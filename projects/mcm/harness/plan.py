"""What MCM's stages do at paper scale, for `make plan`: networks without values, and a step through them."""

from typing import Any

import open_clip
import torch
from diffusers import AutoencoderKL, UNet3DConditionModel, UNetMotionModel
from einops import rearrange
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, Dinov2Config, Dinov2Model

from common.models.lora import Lora
from common.recipe import Stage
from common.workload import Workload
from projects.mcm.consistency import pseudo_huber
from projects.mcm.discriminator import FrameDiscriminator, discriminator_losses, generator_loss
from projects.mcm.model import build_student, denoise
from projects.mcm.motion import motion_head

VAE: dict[str, Any] = {
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
}
TEXT = {  # CLIP ViT-H without its last layer, and ViT-L
    "modelscope": {"hidden_size": 1024, "num_hidden_layers": 23, "num_attention_heads": 16, "intermediate_size": 4096},
    "animatediff": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
}
DINO = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "image_size": 518, "patch_size": 14}
TOKENS = 77
VIDEOS = 2_467_378  # of WebVid
REPORTED = {"distill": "8 GPUs of 80 GB; hours not found (README.md of the repository)"}


def workload(stage: Stage, config: dict[str, Any]) -> Workload:
    """The stage's networks, its step and its amounts, from the paper's config."""
    model, data = config["model"], config["data"]
    kind = "animatediff" if "motion_adapter" in model["teacher"] else "modelscope"
    described = _train if stage.run == "fit" else _evaluate
    networks, step = described(kind, model, data)
    samples = VIDEOS if stage.run == "fit" else data["test"]["init_args"]["limit"]
    return Workload(
        networks,
        step,
        data["batch_size"],
        samples,
        unit="video",
        workers=data["num_workers"],
        reported=REPORTED.get(stage.name, ""),
    )


def _teacher(kind: str) -> nn.ModuleDict:
    """U-Net, autoencoder and text encoder with the sizes of their releases, frozen."""
    text = TEXT[kind]
    if kind == "modelscope":
        unet = UNet3DConditionModel(sample_size=32, cross_attention_dim=text["hidden_size"])
    else:
        unet = UNetMotionModel(
            sample_size=64,
            cross_attention_dim=text["hidden_size"],
            motion_max_seq_length=32,
            use_motion_mid_block=False,
        )
    encoder = CLIPTextModel(CLIPTextConfig(**text, max_position_embeddings=TOKENS))
    parts = {"unet": unet, "vae": AutoencoderKL(**VAE), "text": encoder}
    return nn.ModuleDict(parts).requires_grad_(False).eval()


def _train(kind: str, model: dict[str, Any], data: dict[str, Any]) -> tuple[nn.Module, Any]:
    """A step of `MotionConsistency`; the share of the student's own videos counts for a whole pass."""
    teacher = _teacher(kind)
    student = build_student(teacher["unet"], Lora(**model["lora"]))
    if model.get("checkpointing"):
        student.enable_gradient_checkpointing()
    head = motion_head(model["motion"])
    networks: dict[str, nn.Module] = {"teacher": teacher, "student": student, "head": head}
    adversary = model.get("adversary")
    if adversary:
        clip = open_clip.create_model("ViT-g-14", load_weights=False, device="meta")
        clip.visual = None
        networks["clip"] = clip.requires_grad_(False).eval()
        networks["dino"] = Dinov2Model(Dinov2Config(**DINO)).requires_grad_(False).eval()
        networks["judge"] = FrameDiscriminator(adversary["encoder"]["blocks"], DINO["hidden_size"], 1024)
    frames, side = data["frames"], data["image_size"]

    def step(n: int) -> Tensor:
        with torch.no_grad():
            pixels = torch.zeros(n * frames, 3, side, side)
            z = rearrange(teacher["vae"].encode(pixels).latent_dist.mean, "(b f) c h w -> b c f h w", b=n)
            context = teacher["text"](input_ids=torch.zeros(n, TOKENS, dtype=torch.long)).last_hidden_state
            t = torch.zeros(n, dtype=torch.long)
            denoise(teacher["unet"], torch.cat([z, z]), torch.cat([t, t]), torch.cat([context, context]))
            target = head(denoise(student, z, t, context))
            if model["simulated"]:
                denoise(student, z, t, context)
        made = denoise(student, z, t, context)
        loss = pseudo_huber(head(made), target)
        return loss + _play(networks, adversary, made, side) if adversary else loss

    return nn.ModuleDict(networks), step


def _play(networks: dict[str, nn.Module], adversary: dict[str, Any], made: Tensor, side: int) -> Tensor:
    """The discriminator's part of a step, with the penalty's forward pass but not its second derivative."""
    count = len(made) * adversary["frames"]
    chosen = rearrange(made[:, :, : adversary["frames"]], "b c k h w -> (b k) c h w")
    frames = networks["teacher"]["vae"].decode(chosen).sample  # type: ignore[index]
    with torch.no_grad():
        told = networks["clip"].encode_text(torch.zeros(count, TOKENS, dtype=torch.long))  # type: ignore[operator]

    def seen(images: Tensor) -> list[Tensor]:
        size = adversary["encoder"]["size"]
        hidden = networks["dino"](nn.functional.interpolate(images, (size, size)), output_hidden_states=True)
        return [hidden.hidden_states[number + 1][:, 1:] for number in adversary["encoder"]["blocks"]]

    fooled = networks["judge"](seen(frames), told)
    with torch.no_grad():
        others = [seen(torch.zeros(count, 3, side, side)) for _ in range(3)]
    real, fake, mixed = (networks["judge"](features, told) for features in others)
    losses = discriminator_losses(real, fake, "wgan")
    return generator_loss(fooled, "wgan") + losses[0] + losses[1] + mixed.mean()


def _evaluate(kind: str, model: dict[str, Any], data: dict[str, Any]) -> tuple[nn.Module, Any]:
    """A student's passes for all numbers of steps, and their decoding; what measures is small beside that."""
    teacher = _teacher(kind)
    frames, side = data["frames"], data["image_size"] // 8

    def step(n: int) -> None:
        context = teacher["text"](input_ids=torch.zeros(n, TOKENS, dtype=torch.long)).last_hidden_state
        z, t = torch.zeros(n, 4, frames, side, side), torch.zeros(n, dtype=torch.long)
        for _ in range(sum(model["steps"])):
            denoise(teacher["unet"], z, t, context)
        for _ in model["steps"]:
            teacher["vae"].decode(rearrange(z, "b c f h w -> (b f) c h w"))

    return teacher, step
