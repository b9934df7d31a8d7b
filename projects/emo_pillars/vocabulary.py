"""A WordPiece vocabulary that all classifiers of the mini scale share: of the world's two registers, or of GoEmotions.

    python -m projects.emo_pillars.vocabulary test --config projects/emo_pillars/configs/mini/vocabulary.yaml

At paper scale the pretrained encoder brings its own.
"""

from pathlib import Path

import lightning.pytorch as L
from torch.utils.data import DataLoader

from common.cli import main
from common.data.classified import all_texts
from common.data.readers.goemotions import GoEmotions
from common.data.tokenizers import build_wordpieces
from projects.emo_pillars import grammar
from projects.emo_pillars.records import StoryPlots


class Texts(L.LightningDataModule):
    """The texts.

    Args:
        goemotions: folder of GoEmotions, whose training comments are taken; none takes the world's words.
    """

    def __init__(self, goemotions: str | None = None):
        super().__init__()
        self.goemotions = goemotions

    def test_dataloader(self) -> DataLoader:
        return DataLoader(self.texts(), batch_size=10_000, collate_fn=list)

    def texts(self) -> list[str]:
        if self.goemotions is not None:
            return list(all_texts(GoEmotions(self.goemotions, several=True).read("train")))
        plots = [record["plot"] for record in StoryPlots(500).read(0)]
        remarks = [example.text for example in grammar.OnlineRemarks(train=500).read("train")]
        patterns = [*grammar.SPOKEN, *grammar.UNMOVED, *grammar.PLAIN, *grammar.ONLINE_PLAIN]
        return [*grammar.CUES.values(), *grammar.VAGUE, *patterns, *plots, *remarks, "feels and a little kinda"]


class Vocabulary(L.LightningModule):
    """Leaves a tokenizer in the run folder's `tokenizer/`.

    Args:
        size: pieces, at most.
    """

    run_dir: Path

    def __init__(self, size: int = 1000):
        super().__init__()
        self.size, self.seen = size, list[str]()

    def test_step(self, batch: list[str], batch_idx: int) -> None:
        self.seen += batch

    def on_test_epoch_end(self) -> None:
        tokenizer = build_wordpieces(self.seen, self.size)
        tokenizer.save_pretrained(self.run_dir / "tokenizer")
        self.log("test/pieces", float(len(tokenizer)))


if __name__ == "__main__":
    main(Vocabulary, Texts)
