"""The mini scale's language model: a small Qwen2 that has read the world's captions, and seen no picture.

    python -m projects.vlv.language fit --config projects/vlv/configs/mini/language.yaml

Leaves net and tokenizer in the run folder's `model/`. At paper scale Qwen2.5 is a published checkpoint.
"""

from pathlib import Path
from typing import Any

import lightning.pytorch as L
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor
from transformers import PreTrainedTokenizerBase, Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

from common.cli import main
from common.data.images import PictureData
from common.training.schedules import adamw, optimizer_steps
from projects.vlv.model import caption_logits, caption_loss, encode_captions

VOCABULARY = 500  # more than the bytes and the words of a world


class LanguageTraining(L.LightningModule):
    """Next-token prediction on captions alone.

    Args:
        tokenizer: follows from the data.
        hidden: width.
        layers: of the decoder.
        lr: peak learning rate.
        weight_decay: of AdamW.
        warmup_steps: linear warm-up; a cosine to zero follows.
    """

    run_dir: Path

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        hidden: PositiveInt = 64,
        layers: PositiveInt = 2,
        lr: float = 3e-3,
        weight_decay: float = 0.01,
        warmup_steps: NonNegativeInt = 30,
    ):
        super().__init__()
        self.tokenizer = tokenizer
        self.lr, self.weight_decay, self.warmup_steps = lr, weight_decay, warmup_steps
        sizes: dict[str, Any] = {"hidden_size": hidden, "intermediate_size": 2 * hidden, "num_hidden_layers": layers}
        sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True}
        sizes |= {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
        sizes["eos_token_id"] = tokenizer.eos_token_id
        self.net = Qwen2ForCausalLM(Qwen2Config(initializer_range=hidden**-0.5 / 2, **sizes))

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        ids, mask = (x.to(self.device) for x in encode_captions(self.tokenizer, batch["caption"], 64))
        start = ids.new_full((len(ids), 1), self.tokenizer.eos_token_id)  # stands where a picture's prefix will
        logits = caption_logits(self.net, self.net.get_input_embeddings()(start), ids, mask)
        loss = caption_loss(logits, ids, mask) / mask.sum()
        self.log("train/loss", loss, batch_size=len(ids))
        return loss

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        steps = optimizer_steps(self.trainer)
        return adamw(self.net.parameters(), self.lr, self.weight_decay, self.warmup_steps, steps)

    def on_train_end(self) -> None:
        if self.trainer.is_global_zero:
            self.net.save_pretrained(self.run_dir / "model")
            self.tokenizer.save_pretrained(self.run_dir / "model")

    def exported(self) -> Qwen2ForCausalLM:
        return self.net


class Captions(PictureData):
    """Pictures of which the captions are read, and Qwen's tokenizer, trained on them until words are tokens."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        source = self.source("train")
        captions = [source[index].caption for index in range(len(source))]
        return Qwen2Tokenizer().train_new_from_iterator(captions, VOCABULARY, show_progress=False)


def links(parser: Any) -> None:
    parser.link_arguments("seed_everything", "data.seed", compute_fn=int)
    parser.link_arguments("data.tokenizer", "model.tokenizer", apply_on="instantiate")


if __name__ == "__main__":
    main(LanguageTraining, Captions, links=links)
