"""Stand-ins for what the paper's configs read: made-up videos and images in tars, narrow models under the real ids."""

import json
from pathlib import Path

import torch
import transformers
from diffusers import MotionAdapter, UNet2DConditionModel, UNet3DConditionModel
from safetensors.torch import save_file

from common.models.lora import Lora, trained_part
from common.rehearsal.datasets import make_webdataset
from common.rehearsal.diffusion_models import CHANNELS, UNET
from common.rehearsal.hub import snapshot, write_hub
from common.rehearsal.image_hubs import write_open_clip
from common.rehearsal.metric_models import write_inception
from common.rehearsal.videos import make_video_tar
from projects.mcm.model import build_student

HUB = (
    "ali-vilab/text-to-video-ms-1.7b",
    "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "guoyww/animatediff-motion-adapter-v1-5-2",
    "facebook/dinov2-small",
    "openai/clip-vit-base-patch32",
)
LAYERS = 2
"""Of the encoders of frames and captions: `configs/rehearsal/distillation.yaml` takes the output of both."""
VIDEOMAE = "MCG-NJU/videomae-base-finetuned-kinetics"


def make(folder: Path) -> None:
    """Write `data/`, `weights/` and `hub/` into `folder`."""
    data = folder / "data"
    for tar in range(2):
        make_video_tar(data / f"webvid/train/{tar:05d}.tar", videos=24, first=24 * tar)
        make_webdataset(data / f"laion_aesthetic/{tar:05d}.tar", samples=12, first=12 * tar)
        make_video_tar(data / f"webvid/val/{tar:05d}.tar", videos=4, first=48 + 4 * tar)
    torch.manual_seed(0)
    write_inception(folder / "weights/pt_inception-2015-12-05-6726825d.pth")
    hub = folder / "hub"
    write_hub(hub, HUB, layers=LAYERS)
    write_narrow(hub)
    write_open_clip(hub, "ViT-g-14", "laion2b_s34b_b88k", narrow=True, layers=2)
    settings = transformers.VideoMAEConfig(
        image_size=96,
        num_frames=4,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
    )
    transformers.VideoMAEForVideoClassification(settings).save_pretrained(snapshot(hub, VIDEOMAE))
    write_released(hub)


def write_narrow(hub: Path) -> None:
    """AnimateDiff's two parts with a level of each kind in the place of four: its time is that of its modules."""
    torch.manual_seed(0)
    levels = UNET | {"block_out_channels": CHANNELS[1:3]}
    unet = UNet2DConditionModel(
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        **levels,
        attention_head_dim=8,
    )
    unet.save_pretrained(snapshot(hub, HUB[1]) / "unet")
    adapter = MotionAdapter.from_pretrained(snapshot(hub, HUB[2]))
    narrow = MotionAdapter.from_config(adapter.config, block_out_channels=CHANNELS[1:3])
    narrow.save_pretrained(snapshot(hub, HUB[2]))


def write_released(hub: Path) -> None:
    """A released student of ModelScope's stand-in, in peft's format."""
    teacher = UNet3DConditionModel.from_pretrained(snapshot(hub, HUB[0]), subfolder="unet")
    updates = trained_part(build_student(teacher, Lora(4, 4.0))).state_dict()
    folder = snapshot(hub, "yhzhai/mcm") / "modelscopet2v-laion"
    folder.mkdir()
    names = {name: f"base_model.model.{name.replace('.default', '')}" for name in updates}
    save_file({names[name]: value for name, value in updates.items()}, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 4}), encoding="utf-8"
    )
