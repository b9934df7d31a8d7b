"""The language model that writes and grades utterances: of the hub, or a trained classifier that only grades."""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from common.data.classified import collate
from common.data.text import LabelledText
from common.data.tokenizers import load_tokenizer
from common.errors import UserError
from common.hub import from_pretrained
from common.models.text_classifier import ClassifierConfig, build_classifier, logits
from common.paths import expand
from common.training.weights import load_weights
from projects.emo_pillars.prompts import sections_of
from projects.emo_pillars.taxonomy import GOEMOTIONS, TOP


class LanguageModel(nn.Module):
    """Answers prompts; the same prompt always gets the same answer."""

    @abstractmethod
    def answers(self, prompts: Sequence[str], max_tokens: int) -> list[str]:
        """An answer of at most `max_tokens` tokens to each prompt."""


class HubModel(LanguageModel):
    """A causal language model of the hub, greedy, with the paper's repetition penalty.

    Args:
        name: hub id or folder of a model that chats.
        repetition_penalty: divides the logits of tokens that stand in the prompt or the answer already.
        max_prompt: longer prompts lose their beginning (a plot's), not the task.
    """

    def __init__(
        self,
        name: str = "mistralai/Mistral-7B-Instruct-v0.2",
        repetition_penalty: float = 1.03,
        max_prompt: int = 6000,
    ):
        super().__init__()
        self.tokenizer = from_pretrained(AutoTokenizer, name, padding_side="left", truncation_side="left")
        if self.tokenizer.chat_template is None:
            raise UserError(f"{name} has no chat template: take a model that follows instructions")
        self.tokenizer.pad_token = self.tokenizer.pad_token or self.tokenizer.eos_token
        dtype = torch.bfloat16 if torch.cuda.is_available() else torch.float32
        self.net = from_pretrained(AutoModelForCausalLM, name, dtype=dtype).requires_grad_(False).eval()
        self.repetition_penalty, self.max_prompt = repetition_penalty, max_prompt

    @torch.no_grad()
    def answers(self, prompts: Sequence[str], max_tokens: int) -> list[str]:
        chats = [
            self.tokenizer.apply_chat_template(
                [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
            )
            for text in prompts
        ]
        inputs = self.tokenizer(
            chats,
            add_special_tokens=False,
            padding=True,
            truncation=True,
            max_length=self.max_prompt,
            return_tensors="pt",
            return_token_type_ids=False,
        ).to(self.net.device)
        written = self.net.generate(
            **inputs,
            do_sample=False,
            max_new_tokens=max_tokens,
            repetition_penalty=self.repetition_penalty,
            pad_token_id=self.tokenizer.pad_token_id,
        )
        return self.tokenizer.batch_decode(written[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


class Grader(LanguageModel):
    """A trained classifier in a language model's place: it can do no more than grade an utterance's emotions.

    Args:
        net: the classifier.
        weights: its weights.
        tokenizer: its tokenizer.
        max_length: longer utterances are cut to this many tokens.
    """

    def __init__(self, net: ClassifierConfig, weights: str, tokenizer: str, max_length: int = 64):
        super().__init__()
        self.tokenizer, self.max_length = load_tokenizer(tokenizer), max_length
        self.net = build_classifier(net, len(GOEMOTIONS), len(self.tokenizer), load=False)
        load_weights(self.net, expand(weights, "weights of the grader")).requires_grad_(False).eval()

    @torch.no_grad()
    def answers(self, prompts: Sequence[str], max_tokens: int) -> list[str]:
        asked = [sections_of(text) for text in prompts]
        if other := {parts["task"] for parts in asked} - {"levels"}:
            raise UserError(f"a classifier grades emotions and writes nothing: it cannot do '{other.pop()}'")
        texts = [LabelledText(parts["utterance"], None, 0) for parts in asked]
        batch = {k: v.to(self.net.device) for k, v in collate(texts, self.tokenizer, self.max_length).items()}
        levels, order = logits(self.net, batch).sigmoid().topk(TOP)
        return [
            "\n".join(f"{GOEMOTIONS[k]}: {level:.1f}" for k, level in zip(best, row, strict=True))
            for best, row in zip(order.tolist(), levels.tolist(), strict=True)
        ]
