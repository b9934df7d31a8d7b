"""GoEmotions: Reddit comments with emotions (Demszky et al. 2020), in the released files."""

from collections.abc import Iterator

from common.data.files import is_file, lines_of, shown
from common.data.text import LabelledText, Split, TextSource, scored
from common.errors import UserError
from common.paths import expand

ABOUT = """GoEmotions (CC BY 4.0).
  from: github.com/google-research/google-research, folder goemotions/data
  expected: train.tsv, dev.tsv, test.tsv (comment, class indices separated by commas, comment id; no header)
    and labels.txt or emotions.txt (27 emotions, a line each; "neutral" is the last class, whether listed or not)"""


class GoEmotions(TextSource):
    """Comments with the emotions that annotators gave them, of 27 and "neutral".

    Args:
        root: folder of the files; `$DATA_ROOT` is replaced.
        several: all comments, with a score of 1 for each of their emotions; without it the comments with exactly one
            (84 %), with its class.

    Raises:
        UserError: a file is missing, or a line is not in its format.
    """

    def __init__(self, root: str, several: bool = False):
        self.folder, self.several = expand(root, "root of GoEmotions"), several
        listed = next((self.folder / name for name in ("labels.txt", "emotions.txt") if self._has(name)), None)
        if listed is None:
            raise UserError(f"no GoEmotions in {self.folder}: labels.txt is missing.\n{ABOUT}")
        names = [name.strip() for name in lines_of(listed)]
        odd = [name for name in names if not name.isprintable() or len(name.split()) != 1]
        if odd or len(set(names)) < len(names):
            raise UserError(f"{listed} is not one emotion a line, each once: {shown(', '.join(odd or names))}\n{ABOUT}")
        self._classes = tuple(names if "neutral" in names else [*names, "neutral"])

    def _has(self, name: str) -> bool:
        return is_file(self.folder / name)

    @property
    def classes(self) -> tuple[str, ...]:
        return self._classes

    def read(self, split: Split) -> list[LabelledText]:
        rows = self.rows(split)
        if self.several:
            classes = range(len(self.classes))
            return [scored(text, None, tuple(float(k in labels) for k in classes)) for text, labels in rows]
        return [LabelledText(text, None, labels[0]) for text, labels in rows if len(labels) == 1]

    def rows(self, split: Split) -> Iterator[tuple[str, list[int]]]:
        """Comments and the indices of their classes, one by one."""
        file = self.folder / f"{'dev' if split == 'val' else split}.tsv"
        if not is_file(file):
            raise UserError(f"no GoEmotions in {self.folder}: {file.name} is missing.\n{ABOUT}")
        indices = {str(k): k for k in range(len(self.classes))}
        for number, line in enumerate(lines_of(file), start=1):
            text, *rest = line.split("\t")
            given = rest[0].split(",") if len(rest) == 2 else []
            labels = [indices[label] for label in given if label in indices]
            if not text.strip() or not labels or len(labels) < len(given):
                raise UserError(
                    f"{file}, line {number}, is not (comment, class indices, comment id): {shown(line)}\n{ABOUT}"
                )
            yield text, labels
