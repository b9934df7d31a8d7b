"""A small BERT or RoBERTa, pretrained once on texts as a masked language model and cached: text recipes start from it.

    python -m common.foundations.masked_lm fit --config common/foundations/configs/mini/sentence_bert.yaml

Leaves net and tokenizer in the run folder's `model/`, as transformers' `from_pretrained` reads them. At paper scale the
foundation is a published checkpoint, and this script is not run.
"""

from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as L
import numpy as np
import transformers
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from transformers import DataCollatorForLanguageModeling, PreTrainedModel, PreTrainedTokenizerBase

from common.cli import main
from common.data.pairs import PairSource
from common.data.stream import stream_loader
from common.data.tokenizers import build_wordpieces
from common.training.schedules import adamw, optimizer_steps

Kind = Literal["bert", "roberta"]
Batch = dict[str, Tensor]
FOLLOWS, IGNORED = 0, -100  # labels of BERT's second task
DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob")
MASKED, REPLACED = 0.4, 0.4  # of the hidden tokens; BERT has 0.8 and 0.1


class Pretraining(L.LightningModule):
    """BERT's two tasks (Devlin et al. 2019, section 3.1): tell hidden tokens from the others, and whether a second
    sentence follows the first in a text.

    RoBERTa gave the second task up. A net as small as this one needs it to look at both sentences at once, whatever its
    kind. For the same reason more tokens than BERT's are hidden, and more of these are another word instead of a mask:
    whether a word is the right one shows in the other sentence. Nothing is dropped out, as in ALBERT: so few parameters
    do not overfit. The saved configuration has BERT's dropout again, for what comes after.

    Args:
        kind: whose architecture; follows from the data.
        tokenizer: follows from the data.
        hidden: width; the feed-forward layers have four times as much.
        layers: transformer blocks.
        heads: attention heads.
        lr: peak learning rate.
        weight_decay: of AdamW.
        warmup_steps: linear warm-up; a cosine to zero follows.
    """

    run_dir: Path
    net: PreTrainedModel

    def __init__(
        self,
        kind: Kind,
        tokenizer: PreTrainedTokenizerBase,
        hidden: int = 64,
        layers: int = 2,
        heads: int = 4,
        lr: float = 2e-3,
        weight_decay: float = 0.01,
        warmup_steps: int = 100,
    ):
        super().__init__()
        self.tokenizer = tokenizer
        self.lr, self.weight_decay, self.warmup_steps = lr, weight_decay, warmup_steps
        sizes: dict[str, Any] = {"hidden_size": hidden, "intermediate_size": 4 * hidden}
        sizes |= {"num_hidden_layers": layers, "num_attention_heads": heads, **dict.fromkeys(DROPOUTS, 0.0)}
        sizes |= {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
        sizes["initializer_range"] = hidden**-0.5 / 2  # the published 0.02 suits a width of 768, and stalls narrow nets
        self.follows: nn.Module | None = None
        if kind == "bert":
            self.net = transformers.BertForPreTraining(transformers.BertConfig(max_position_embeddings=128, **sizes))
        else:
            sizes |= {"type_vocab_size": 1, "max_position_embeddings": 130}
            sizes |= {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
            self.net = transformers.RobertaForMaskedLM(transformers.RobertaConfig(**sizes))
            self.follows = nn.Linear(hidden, 2)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        labels, follows = batch.pop("labels"), batch.pop("next_sentence_label")
        found = self.net(**batch, output_hidden_states=self.follows is not None)
        if self.follows is None:
            words, sentence = found.prediction_logits, found.seq_relationship_logits
        else:
            words, sentence = found.logits, self.follows(found.hidden_states[-1][:, 0])
        cloze = F.cross_entropy(words[labels >= 0], labels[labels >= 0])
        following = F.cross_entropy(sentence, follows)
        self.log_dict({"train/loss": cloze + following, "train/cloze": cloze, "train/following": following})
        return cloze + following

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        steps = optimizer_steps(self.trainer)
        return adamw(self.parameters(), self.lr, self.weight_decay, self.warmup_steps, steps)

    def on_train_end(self) -> None:
        if self.trainer.is_global_zero:
            self.net.config.update(dict.fromkeys(DROPOUTS, 0.1))
            self.net.save_pretrained(self.run_dir / "model")
            self.tokenizer.save_pretrained(self.run_dir / "model")

    def exported(self) -> PreTrainedModel:
        return self.net


class TextData(L.LightningDataModule):
    """Texts with hidden tokens: one sentence alone, or two, of which the second follows the first or is any other.

    Args:
        texts: pairs of sentences that follow each other; scores are not looked at.
        kind: BERT's WordPiece of whole words and characters, or RoBERTa's byte-level BPE.
        vocabulary: size of the tokenizer, at most.
        alone: share of the samples with the first sentence alone; half of the others do not belong together.
        hidden: share of the tokens that are to be told; 40 % of them are masked, 40 % replaced, 20 % left as they are.
        max_length: longer samples are cut to this many tokens.
        batch_size: samples per step and process.
        seed: order of the samples, and what becomes of each.
    """

    def __init__(
        self,
        texts: PairSource,
        kind: Kind = "bert",
        vocabulary: int = 400,
        alone: float = 0.25,
        hidden: float = 0.3,
        max_length: int = 64,
        batch_size: int = 64,
        seed: int = 0,
    ):
        super().__init__()
        self.kind, self.alone, self.max_length, self.batch_size, self.seed = kind, alone, max_length, batch_size, seed
        self.pairs = texts.read("train")
        self.tokenizer = build_tokenizer(kind, [text for pair in self.pairs for text in (pair.a, pair.b)], vocabulary)
        self.hide = DataCollatorForLanguageModeling(
            self.tokenizer, mlm_probability=hidden, mask_replace_prob=MASKED, random_replace_prob=REPLACED
        )

    def __len__(self) -> int:
        return len(self.pairs)

    def draw(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        first, second = self.pairs[index].a, None
        follows = IGNORED
        if rng.random() > self.alone:
            follows = int(rng.integers(2))
            second = self.pairs[index if follows == FOLLOWS else int(rng.integers(len(self)))].b
        tokens = self.tokenizer(
            first, second, truncation=True, max_length=self.max_length, return_special_tokens_mask=True
        )
        return {**tokens, "next_sentence_label": follows}

    def train_dataloader(self) -> DataLoader:
        return stream_loader(self, self.batch_size, self.trainer, self.seed, collate=self.hide)


def build_tokenizer(kind: Kind, texts: list[str], size: int) -> PreTrainedTokenizerBase:
    """BERT's lower-case WordPiece or RoBERTa's byte-level BPE of at most `size` pieces; same texts, same pieces."""
    if kind == "roberta":
        return transformers.RobertaTokenizer().train_new_from_iterator(texts, size, show_progress=False)
    return build_wordpieces(texts, size)


def links(parser: Any) -> None:
    """One architecture and one tokenizer."""
    parser.link_arguments("data.kind", "model.kind")
    parser.link_arguments("data.tokenizer", "model.tokenizer", apply_on="instantiate")
    parser.link_arguments("seed_everything", "data.seed", compute_fn=int)


if __name__ == "__main__":
    main(Pretraining, TextData, links=links)
