"""A part of GoEmotions: the same from the released files and from the hub's, and what is wrong with others."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from common.data.readers.goemotions_part import GoEmotionsPart
from common.errors import UserError

NAMES = ["admiration", "anger", "neutral"]
ROWS: dict[str, list[tuple[str, list[int]]]] = {
    "train": [("so good", [0]), ("mixed", [0, 1]), ("go away", [1]), ("it rains", [2])],
    "val": [("hm", [2])],
    "test": [("great", [0]), ("no", [1])],
}


def released(root: Path) -> Path:
    (root / "labels.txt").write_text("\n".join(NAMES) + "\n")
    for split, rows in ROWS.items():
        lines = [f"{text}\t{','.join(map(str, labels))}\tid{k}" for k, (text, labels) in enumerate(rows)]
        (root / f"{'dev' if split == 'val' else split}.tsv").write_text("\n".join(lines) + "\n")
    return root


def of_the_hub(root: Path, rows: dict[str, list[tuple[str, Any]]] = ROWS, names: list[str] | None = NAMES) -> Path:
    (root / "simplified").mkdir()
    for split, found in rows.items():
        columns = {"text": [text for text, _ in found], "labels": [labels for _, labels in found]}
        feature = {"feature": {"names": names, "_type": "ClassLabel"}, "_type": "List"}
        noted = {"info": {"features": {"labels": feature}}} if names else {}
        table = pa.table(columns).replace_schema_metadata({"huggingface": json.dumps(noted)})
        name = "validation" if split == "val" else split
        pq.write_table(table, root / f"simplified/{name}-00000-of-00001.parquet")
    return root


def test_both_layouts_hold_the_same_comments_of_one_emotion(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    first, second = GoEmotionsPart(str(released(tmp_path / "a"))), GoEmotionsPart(str(of_the_hub(tmp_path / "b")))
    assert first.classes == second.classes == tuple(NAMES)
    for split in ("train", "val", "test"):
        assert first.read(split) == second.read(split)
    assert [example.label for example in second.read("train")] == [0, 1, 2]


@pytest.mark.parametrize("layout", [released, of_the_hub])
def test_a_part_is_the_first_comments(layout, tmp_path):
    part = GoEmotionsPart(str(layout(tmp_path)), train=2, test=1)
    assert [example.text for example in part.read("train")] == ["so good", "go away"]
    assert len(part.read("val")) == len(part.read("test")) == 1
    with pytest.raises(UserError, match="train has 3 comments, 4 are asked for"):
        GoEmotionsPart(str(tmp_path), train=4).read("train")


def test_what_is_missing_or_damaged_is_said(tmp_path):
    with pytest.raises(UserError, match="no GoEmotions in .*: labels.txt is missing"):
        GoEmotionsPart(str(tmp_path))
    of_the_hub(tmp_path)
    (tmp_path / "simplified/test-00000-of-00001.parquet").unlink()
    with pytest.raises(UserError, match=r"no simplified/test-\*.parquet"):
        GoEmotionsPart(str(tmp_path)).read("test")
    (tmp_path / "simplified/validation-00000-of-00001.parquet").write_bytes(b"PAR1 but no more")
    with pytest.raises(UserError, match="cannot read"):
        GoEmotionsPart(str(tmp_path)).read("val")


@pytest.mark.parametrize(
    ("rows", "names", "said"),
    [
        ({"train": [("a", [3])]}, NAMES, "row 0: no labels from 0 to 2"),
        ({"train": [("a", [])], "val": [("a", [0])]}, NAMES, "has no columns text and labels|row 0: no labels"),
        ({"train": [("a", 1)]}, NAMES, "has no columns text and labels"),
        ({"train": [("a", ["0"])]}, NAMES, "has no columns text and labels"),
        ({"train": [("a", [0])]}, None, "does not name its classes"),
    ],
)
def test_other_columns_are_refused(rows, names, said, tmp_path):
    with pytest.raises(UserError, match=said):
        GoEmotionsPart(str(of_the_hub(tmp_path, rows, names))).read("train")
