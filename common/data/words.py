"""A tokenizer for the captions of a world: a token for every word."""

from collections.abc import Iterable

from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

PAD, UNKNOWN, BEGIN, END = "<pad>", "<unk>", "<bos>", "<eos>"


def word_tokenizer(texts: Iterable[str], length: int | None = None, ends: bool = False) -> PreTrainedTokenizerFast:
    """A tokenizer of the words in `texts`; the same words give the same one.

    Args:
        length: longest input in tokens; None for no limit.
        ends: put a beginning and an end around every text, as CLIP's does.
    """
    words = sorted({word for text in texts for word in text.split()})
    vocabulary = {word: number for number, word in enumerate((PAD, UNKNOWN, BEGIN, END, *words))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if ends:
        special = [(word, vocabulary[word]) for word in (BEGIN, END)]
        tokenizer.post_processor = processors.TemplateProcessing(single=f"{BEGIN} $A {END}", special_tokens=special)
    names = {"pad_token": PAD, "unk_token": UNKNOWN, "bos_token": BEGIN, "eos_token": END}
    found = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
    if length is not None:
        found.model_max_length = length
    return found
