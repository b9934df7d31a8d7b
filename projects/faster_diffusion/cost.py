"""What a picture costs at real size, counted on networks without values: Stable Diffusion 1.5, XL, and DeepFloyd IF.

python -m projects.faster_diffusion.cost test --config projects/faster_diffusion/configs/mini/cost.yaml
"""

from types import SimpleNamespace
from typing import Any

import lightning.pytorch as L
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import nn
from torch.utils.data import DataLoader

from common.cli import main
from common.training.flops import flop_counter
from projects.faster_diffusion.keys import Keys, key_steps
from projects.faster_diffusion.propagate import encoder_of, propagate

SD15: dict[str, Any] = {"sample_size": 64, "cross_attention_dim": 768}
SDXL: dict[str, Any] = {
    "sample_size": 128, "block_out_channels": (320, 640, 1280), "transformer_layers_per_block": (1, 2, 10),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": (5, 10, 20), "cross_attention_dim": 2048, "use_linear_projection": True,
    "addition_embed_type": "text_time", "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816,
}  # fmt: skip
IF_I: dict[str, Any] = {  # IF-I-XL, DeepFloyd's first stage
    "sample_size": 64, "in_channels": 3, "out_channels": 6, "block_out_channels": (704, 1408, 2112, 2816),
    "down_block_types": ("ResnetDownsampleBlock2D", *("SimpleCrossAttnDownBlock2D",) * 3),
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn", "layers_per_block": 3, "cross_attention_dim": 2816,
    "up_block_types": (*("SimpleCrossAttnUpBlock2D",) * 3, "ResnetUpsampleBlock2D"), "attention_head_dim": 64,
    "encoder_hid_dim": 4096, "encoder_hid_dim_type": "text_proj", "cross_attention_norm": "group_norm",
    "addition_embed_type": "text", "addition_embed_type_num_heads": 64, "act_fn": "gelu",
    "time_embedding_act_fn": "gelu", "resnet_time_scale_shift": "scale_shift", "resnet_skip_time_act": True,
    "resnet_out_scale_factor": 2**0.5, "mid_block_scale_factor": 2**0.5,
}  # fmt: skip
NETWORKS = {"sd15": SD15, "sdxl": SDXL, "if": IF_I}
TOKENS = 77


def build(name: str) -> Any:
    """On the meta device, a network without values."""
    with torch.device("meta"):
        network: Any = UNet2DConditionModel(**NETWORKS[name])
        return network.eval()


def macs(network: Any) -> tuple[int, int]:
    """Multiply-adds of a sample at a key step and at another one."""
    config = network.config
    side = torch.zeros(1, config.in_channels, config.sample_size, config.sample_size, device="meta")
    given: dict[str, Any] = {
        "encoder_hidden_states": torch.zeros(
            1, TOKENS, config.encoder_hid_dim or config.cross_attention_dim, device="meta"
        )
    }
    if config.addition_embed_type == "text_time":
        pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
        given["added_cond_kwargs"] = {
            "text_embeds": torch.zeros(1, pooled, device="meta"),
            "time_ids": torch.zeros(1, 6, device="meta"),
        }
    pipe = SimpleNamespace(unet=network, scheduler=DDIMScheduler())
    pipe.scheduler.set_timesteps(2)
    found = []
    with propagate(pipe, keys=2, parallel=False, alpha=0), torch.no_grad():
        for t in pipe.scheduler.timesteps:
            with flop_counter() as counter:
                network(side, t, **given)
            found.append(counter.get_total_flops() // 2)
    return found[0], found[1]


PICTURES: dict[str, tuple[str, Keys, int]] = {  # what is counted -> network, key steps, number of steps
    "sd15": ("sd15", "paper", 50),
    "sd15_dpm": ("sd15", "paper", 20),
    "sdxl": ("sdxl", "paper", 50),
    "if": ("if", "if", 100),
}


class Cost(L.LightningModule):
    """Multiply-adds of a guided picture with and without encoder propagation, in millions of millions; parameters.

    Autoencoder and text encoder, which run once, are not counted; nor are the stages of DeepFloyd IF but the first.
    """

    def test_step(self, batch: Any, batch_idx: int) -> None:
        for name, (network, keys, steps) in PICTURES.items():
            at_key, between = macs(build(network))
            count = len(key_steps(keys, steps))
            plain, ours = 2 * steps * at_key, 2 * (count * at_key + (steps - count) * between)
            self.log(f"test/tmacs_{name}", plain / 1e12, batch_size=1)
            self.log(f"test/tmacs_{name}_faster", ours / 1e12, batch_size=1)
            self.log(f"test/saved_{name}", 100 * (1 - ours / plain), batch_size=1)
        parts = encoder_of(build("sd15"))
        self.log("test/params_encoder", float(size(parts[:-1])), batch_size=1)
        self.log("test/params_middle", float(size(parts[-1:])), batch_size=1)
        at_key, between = macs(build("sd15"))
        self.log("test/gmacs_encoder", (at_key - between) / 1e9, batch_size=1)
        self.log("test/gmacs_decoder", between / 1e9, batch_size=1)


def size(modules: list[nn.Module]) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


class Nothing(L.LightningDataModule):
    """There is no data: one step."""

    def test_dataloader(self) -> DataLoader:
        return DataLoader([0])  # type: ignore[arg-type]


if __name__ == "__main__":
    main(Cost, Nothing)
