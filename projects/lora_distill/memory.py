"""Count what distillation and drawing take on a U-Net of the real size, which the meta device has without its values.

python -m projects.lora_distill.memory test --config projects/lora_distill/configs/mini/memory.yaml
"""

from typing import Any, Literal

import lightning.pytorch as L
import torch
from diffusers import UNet2DConditionModel
from pydantic import PositiveInt
from torch import Tensor
from torch.utils.data import DataLoader

from common.cli import main
from common.models.lora import Lora
from common.training.flops import flop_counter
from common.training.memory import saved_bytes, training_bytes
from projects.lora_distill.model import Pair, distillation_loss

GB = 1e9


class Once(L.LightningDataModule):
    """No data: one step."""

    def test_dataloader(self) -> DataLoader:
        return DataLoader([0])


class Costs(L.LightningModule):
    """Memory of a training step in float32 with AdamW, and operations of a picture.

    `held` are weights, gradients and the optimiser's states of teacher and student, `saved` what autograd keeps of the
    student's forward pass, `memory` both, in GB (1e9 bytes); `trained` numbers. `gmacs_one` and `gmacs_two` are the
    multiply-adds of a picture, in billions, by one and by two evaluations a step. Text encoder and autoencoder, the
    same for all, are left out.

    Args:
        unet: sizes of the U-Net, as diffusers' class takes them.
        lora: Delta; None for a copy of the whole U-Net.
        training: "distillation"; or "finetuning" of the U-Net by itself, without a teacher.
        tokens: of a caption, N.
        batch: pictures a step.
        steps: of a picture.
    """

    def __init__(
        self,
        unet: dict[str, Any],
        lora: Lora | None = None,
        training: Literal["distillation", "finetuning"] = "distillation",
        tokens: PositiveInt = 77,
        batch: PositiveInt = 1,
        steps: PositiveInt = 50,
    ):
        super().__init__()
        self.unet, self.lora, self.training_kind = unet, lora, training
        self.tokens, self.batch, self.steps = tokens, batch, steps

    def test_step(self, batch: Any, batch_idx: int) -> None:
        for name, value in self.counted().items():
            self.log(f"test/{name}", value, batch_size=1)

    def counted(self) -> dict[str, float]:
        with torch.device("meta"), torch.enable_grad():
            pair = Pair(UNet2DConditionModel(**self.unet), self.lora)
            noisy, context = self.inputs(pair, self.batch)
            t = torch.zeros(self.batch, dtype=torch.long)

            def step() -> Tensor:
                target = torch.zeros_like(noisy)  # the noise
                if self.training_kind == "distillation":
                    target = pair.guided(noisy, t, context, context[:1], 1.0)
                return distillation_loss(pair.student(noisy, t, context).sample, target)

            held = training_bytes([pair.student if self.training_kind == "finetuning" else pair])
            saved = saved_bytes(step, pair)
            trained = sum(p.numel() for p in pair.parameters() if p.requires_grad)
            one, two = self.macs(pair)
        return {
            "held": held / GB,
            "saved": saved / GB,
            "memory": (held + saved) / GB,
            "trained": float(trained),
            "gmacs_one": self.steps * one / 1e9,
            "gmacs_two": self.steps * two / 1e9,
        }

    def inputs(self, pair: Pair, count: int) -> tuple[Tensor, Tensor]:
        """Noised latents and contexts."""
        config = pair.student.config
        latents = torch.zeros(count, config.in_channels, config.sample_size, config.sample_size)
        return latents, torch.zeros(count, self.tokens, config.cross_attention_dim)

    def macs(self, pair: Pair) -> tuple[float, float]:
        """For one picture: of the network without updates beside it, what a student costs once they are merged; and of
        the guided teacher."""
        (noisy, context), t = self.inputs(pair, 1), torch.zeros(1, dtype=torch.long)
        with pair.teacher() as unet, flop_counter() as one:
            unet(noisy, t, context)
        with flop_counter() as two:
            pair.guided(noisy, t, context, context, 1.0)
        return one.get_total_flops() / 2, two.get_total_flops() / 2


if __name__ == "__main__":
    main(Costs, Once)
