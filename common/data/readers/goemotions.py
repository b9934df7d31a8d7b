"""GoEmotions: Reddit comments with emotions (Demszky et al. 2020), in the released files."""

from pathlib import Path

from common.data.text import LabelledText, Split, TextSource
from common.errors import UserError
from common.paths import expand

ABOUT = """GoEmotions (CC BY 4.0).
  from: github.com/google-research/google-research, folder goemotions/data
  expected: train.tsv, dev.tsv, test.tsv (comment, class indices separated by commas, comment id; no header)
    and labels.txt or emotions.txt (27 emotions, a line each; "neutral" is the last class, whether listed or not)"""


class GoEmotions(TextSource):
    """Comments that the annotators gave exactly one of 27 emotions or "neutral"; the others (16 %) are left out.

    Args:
        root: folder of the files; `$DATA_ROOT` is replaced.

    Raises:
        UserError: a file is missing, or a line is not in its format.
    """

    def __init__(self, root: str):
        self.folder = expand(root, "root of GoEmotions")
        listed = next((self.folder / name for name in ("labels.txt", "emotions.txt") if self._has(name)), None)
        if listed is None:
            raise UserError(f"no GoEmotions in {self.folder}: labels.txt is missing.\n{ABOUT}")
        names = listed.read_text().split()
        self._classes = tuple(names if "neutral" in names else [*names, "neutral"])

    def _has(self, name: str) -> bool:
        return (self.folder / name).is_file()

    @property
    def classes(self) -> tuple[str, ...]:
        return self._classes

    def read(self, split: Split) -> list[LabelledText]:
        file = self.folder / f"{'dev' if split == 'val' else split}.tsv"
        if not file.is_file():
            raise UserError(f"no GoEmotions in {self.folder}: {file.name} is missing.\n{ABOUT}")
        examples = []
        for number, line in enumerate(file.read_text(encoding="utf-8").rstrip("\n").split("\n"), start=1):
            fields = line.rstrip("\r").split("\t")
            labels = self._labels(fields, file, number)
            if len(labels) == 1:
                examples.append(LabelledText(fields[0], None, labels[0]))
        return examples

    def _labels(self, fields: list[str], file: Path, number: int) -> list[int]:
        try:
            text, labels, _ = fields
            found = [int(label) for label in labels.split(",")]
            if all(0 <= label < len(self.classes) for label in found):
                return found
        except ValueError:
            pass
        raise UserError(f"{file}, line {number}, is not (comment, class indices, comment id): {fields}\n{ABOUT}")
