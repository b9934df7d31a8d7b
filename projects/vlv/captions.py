"""The paper's clean-up of a caption that was cut off, or that says things twice."""

import re


def clean_up(caption: str) -> str:
    """Drop what follows the last full stop, if there is one, and every sentence that was said before.

    The released code does so because its language model is never taught to stop. A caption that ends with "!" or "?"
    loses that last sentence too, where a full stop precedes it.
    """
    if not caption.endswith(".") and "." in caption:
        caption = caption[: caption.rindex(".") + 1]
    sentences = re.split(r"(?<=[.!?])\s+", caption)
    return " ".join(dict.fromkeys(filter(None, sentences)))
