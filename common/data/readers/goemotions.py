"""GoEmotions: Reddit comments with emotions (Demszky et al. 2020), in the released files."""

from collections.abc import Iterator

from common.data.files import is_file, lines_of, shown
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
        return list(self.rows(split))

    def rows(self, split: Split) -> Iterator[LabelledText]:
        """What `read` gives, one by one."""
        file = self.folder / f"{'dev' if split == 'val' else split}.tsv"
        if not is_file(file):
            raise UserError(f"no GoEmotions in {self.folder}: {file.name} is missing.\n{ABOUT}")
        indices = {str(k): k for k in range(len(self.classes))}
        for number, line in enumerate(lines_of(file), start=1):
            text, *rest = line.split("\t")
            labels = [indices.get(label) for label in rest[0].split(",")] if len(rest) == 2 else [None]
            if not text.strip() or None in labels:
                raise UserError(
                    f"{file}, line {number}, is not (comment, class indices, comment id): {shown(line)}\n{ABOUT}"
                )
            if len(labels) == 1 and labels[0] is not None:
                yield LabelledText(text, None, labels[0])
