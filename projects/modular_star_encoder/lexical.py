"""What common words find, and what chance does, without any model: the scale for the encoders' figures. Mini alone.

    python -m projects.modular_star_encoder.lexical test \\
        --config projects/modular_star_encoder/configs/mini/lexical.yaml --data.tokenizer FOLDER ...
"""

from collections.abc import Sequence

import lightning.pytorch as L
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from torch import Tensor

from common.cli import main
from common.data.code import Function
from common.evaluators.retrieval import PairedRetrieval
from projects.modular_star_encoder.testing import EvaluationData, Tested

Ids = Sequence[Sequence[int]]


class Lexical(L.LightningModule):
    """MRR of TF-IDF on the tokens of descriptions and functions that the encoders read, and of chance."""

    def __init__(self) -> None:
        super().__init__()
        self.functions: list[Function] = []

    def test_step(self, batch: Tested, batch_idx: int) -> None:
        self.functions += batch.functions

    def on_test_epoch_end(self) -> None:
        data: EvaluationData = self.trainer.datamodule
        text = contents(data.formatter.text([f.text for f in self.functions]), data)
        code = contents(
            data.formatter.code([f.code for f in self.functions], [f.language for f in self.functions]), data
        )
        found = PairedRetrieval()
        found.update(*weighted(text, code))
        self.log_dict({f"test/{name}": found.compute()["mrr"] for name in ("mrr", "mrr_best")})
        ranks = range(1, len(self.functions) + 1)
        self.log("test/mrr_chance", sum(1 / rank for rank in ranks) / len(self.functions))


def contents(rows: Ids, data: EvaluationData) -> list[list[int]]:
    """What stands in formatted inputs between the instruction and <cls>."""
    sep = data.formatter.tokenizer.sep_token_id
    return [list(row[list(row).index(sep, 1) + 1 : -1]) for row in rows]


def weighted(text: Ids, code: Ids) -> tuple[Tensor, Tensor]:
    """Unit vectors [Q, V] of queries and [C, V] of functions: tokens that few functions have weigh more."""
    words = TfidfVectorizer(analyzer=list, sublinear_tf=True).fit(code)
    first, second = (torch.from_numpy(words.transform(ids).toarray()) for ids in (text, code))
    return first, second


if __name__ == "__main__":
    main(Lexical, EvaluationData)
