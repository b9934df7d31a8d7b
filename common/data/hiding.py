"""Hidden tokens of a masked language model, drawn from a sample's own generator: a resumed run hides the same ones."""

from typing import Any

import numpy as np
from transformers import DataCollatorForTokenClassification, PreTrainedTokenizerBase

IGNORED = -100
"""Label of a token that is not to be told."""


def hide_tokens(
    sample: dict[str, Any],
    rng: np.random.Generator,
    tokenizer: PreTrainedTokenizerBase,
    share: float,
    masked: float = 0.8,
    replaced: float = 0.1,
) -> dict[str, Any]:
    """Hide tokens of a sample, and label these with what they were (Devlin et al. 2019, section 3.1).

    transformers' `DataCollatorForLanguageModeling` draws from torch's global generator while a batch is put together.
    Batches are put together ahead of their step, so that what a checkpoint keeps of that generator is not where a
    resumed run has to begin.

    Args:
        sample: of a tokenizer with `return_special_tokens_mask`: `input_ids` [N], `special_tokens_mask` [N], ...
        rng: the sample's own.
        share: probability with which a token that is not a special one is hidden.
        masked: probability with which a hidden token becomes the mask.
        replaced: probability with which it becomes any token of the vocabulary instead; else it stays as it is.

    Returns:
        the sample with hidden `input_ids`, with `labels` [N], and without its `special_tokens_mask`.
    """
    rest = {key: value for key, value in sample.items() if key != "special_tokens_mask"}
    ids = np.asarray(sample["input_ids"])
    hidden = (rng.random(len(ids)) < share) & ~np.asarray(sample["special_tokens_mask"], bool)
    how, others = rng.random(len(ids)), rng.integers(len(tokenizer), size=len(ids))
    shown = np.where(how < masked, tokenizer.mask_token_id, np.where(how < masked + replaced, others, ids))
    return {
        **rest,
        "input_ids": np.where(hidden, shown, ids).tolist(),
        "labels": np.where(hidden, ids, IGNORED).tolist(),
    }


def padding(tokenizer: PreTrainedTokenizerBase) -> DataCollatorForTokenClassification:
    """Puts samples of `hide_tokens` into a batch, each of [B, N] with N of the longest."""
    return DataCollatorForTokenClassification(tokenizer, label_pad_token_id=IGNORED)
