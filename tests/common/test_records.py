"""Files as they are found, records of declared types, and sources that are tried before a run."""

import gzip
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from common.data.checks import check_source, check_sources, readers
from common.data.files import decode_rgb, is_file, is_folder, lines_of, matching, walk
from common.data.readers.clones import BigCloneBench, Poj104
from common.data.readers.coco_captions import CocoCaptions
from common.data.readers.code_search import CodeSearchNet, CodeTriplets
from common.data.readers.glue import Glue
from common.data.readers.goemotions import GoEmotions
from common.data.readers.image_parquet import ImageParquet
from common.data.readers.imagenet import ImageNet
from common.data.readers.python_functions import read_folder
from common.data.readers.stack import StackRepositories
from common.data.readers.sts import SemEvalSTS, Sick, STSBenchmark
from common.data.readers.video_tars import read_caption
from common.data.scene import UnreadableSample
from common.errors import UserError
from common.rehearsal.sa1b import make_sa1b

# text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", ["", "x", "xx"])
def test_lines_of_any_ending_in_any_marked_encoding(tmp_path, encoding, end, last):
    text = "é\u2028a\tb\n\nc" + last.replace("x", "\n")
    for name, pack in (("a.tsv", bytes), ("a.tsv.gz", gzip.compress)):
        (tmp_path / name).write_bytes(pack(text.replace("\n", end).encode(encoding)))
        assert lines_of(tmp_path / name) == ["é\u2028a\tb", "", "c"]


@pytest.mark.parametrize(
    "content, said",
    [
        ("a\nb caf\xe9".encode("latin-1"), r"line 2, byte 7: not UTF-8 \(e9\).* iconv -f WINDOWS-1252"),
        ("a\nb".encode("utf-16-le"), "line 1, holds NUL characters: .*UTF-16 without a byte-order mark"),
        (b"\xff\xfea", "not UTF-16"),
        (b"\n <!-- saved -->\n<html>a\tb", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "pointer of Git LFS"),
    ],
)
def test_what_is_no_text_is_said_with_its_place(tmp_path, content, said):
    file = tmp_path / "a.tsv"
    file.write_bytes(content)
    with pytest.raises(UserError, match=said) as error:
        lines_of(file)
    assert str(file) in str(error.value)


@pytest.mark.parametrize("damage", ["cut", "bit", "no gzip", "empty", "garbage behind"])
def test_a_damaged_gzip_is_named(tmp_path, damage):
    file, content = tmp_path / "go/final/jsonl/test/go_test_0.jsonl.gz", gzip.compress(b'{"code": "a"}\n' * 500)
    changed = {
        "cut": content[:-20],
        "bit": content[:20] + bytes([content[20] ^ 255]) + content[21:],
        "no gzip": b'{"code": "a"}\n',
        "empty": b"",
        "garbage behind": content + b"more",
    }[damage]
    file.parent.mkdir(parents=True)
    file.write_bytes(changed)
    with pytest.raises(UserError, match="damaged|is empty|not as expected") as error:
        CodeSearchNet(str(tmp_path), "go").read("test")
    assert str(file) in str(error.value)


# places


def test_what_stands_in_a_file_s_place_is_said(tmp_path):
    (tmp_path / "folder.tsv").mkdir()
    os.mkfifo(tmp_path / "pipe.tsv")
    (tmp_path / "loop.tsv").symlink_to("loop.tsv")
    (tmp_path / "nowhere.tsv").symlink_to("absent")
    (tmp_path / "a.txt").write_text("a")
    said = {"folder": "is a folder", "pipe": "no regular file", "loop": "cannot look at", "nowhere": "where nothing is"}
    for name, words in said.items():
        with pytest.raises(UserError, match=words):
            is_file(tmp_path / f"{name}.tsv")
    with pytest.raises(UserError, match="a file belongs there|cannot look|where nothing is"):
        matching(tmp_path / "*.tsv")
    with pytest.raises(UserError, match="one belongs there"):
        is_folder(tmp_path / "a.txt")
    for odd in ("a\0b", "x" * 5000):
        with pytest.raises(UserError, match="cannot look at"):
            is_file(tmp_path / odd)
    assert not is_file(tmp_path / "absent") and not is_file(tmp_path / "a.txt/b") and matching(tmp_path / "no/*") == []


def test_folders_that_nobody_may_read_are_named(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "a.txt").write_text("a")
    monkeypatch.setattr(os, "listdir", refuse)
    monkeypatch.setattr(os, "scandir", refuse)
    for look in (lambda: matching(tmp_path / "*"), lambda: list(walk(tmp_path))):
        with pytest.raises(UserError, match="cannot be read .Permission denied"):
            look()
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UserError, match="a.txt cannot be read .Permission denied"):
        lines_of(tmp_path / "a.txt")


def test_hidden_files_are_no_data(tmp_path):
    for name in ("b.parquet", "a.parquet", "._a.parquet"):
        (tmp_path / name).touch()
    assert [file.name for file in matching(tmp_path / "*.parquet")] == ["a.parquet", "b.parquet"]


# records


@pytest.mark.parametrize(
    "row, said",
    [
        ({"docstring": "d"}, "code: Field required"),
        ({"code": None, "docstring": "d"}, "code: Input should be a valid string, here None"),
        ({"code": " ", "docstring": "d"}, "code: "),
        ({"code": "a"}, "neither `docstring` nor `docstring_tokens`"),
        ({"code": "a", "docstring_tokens": "say it"}, "docstring_tokens: Input should be a valid array, here 'say it'"),
        ({"code": "a", "docstring_tokens": ["say", 5]}, r"docstring_tokens\[1\]: Input should be a valid string"),
        ({"code": "a", "docstring": ["d"]}, "docstring: Input should be a valid string"),
        ({"code": "a", "docstring": "d", "code_b": 5}, "code_b: "),
        (["code"], "Input should be an object"),
        ("deep", "recursion limit"),
    ],
)
def test_functions_of_the_wrong_kind(tmp_path, row, said):
    (tmp_path / "go").mkdir()
    good = json.dumps({"code": "a", "docstring": "d", "code_b": None})
    odd = '{"code": ' + "[" * 100_000 if row == "deep" else json.dumps(row)
    (tmp_path / "go/test.jsonl").write_text(f"{good}\n\n{odd}\n")
    with pytest.raises(UserError, match=rf"test\.jsonl(:3|, line 3).*{said}"):
        CodeSearchNet(str(tmp_path), "go").read("test")


@pytest.mark.parametrize("label", [-7, 105, 10**12, 10**400, 1.0, True, None, "x", "-7", "1000000000000", "²", ["1"]])
def test_problems_of_poj_are_numbers_from_0_to_104(tmp_path, label):
    (tmp_path / "test.jsonl").write_text(json.dumps({"code": "a", "label": label}) + "\n")
    with pytest.raises(UserError, match="line 1, is not as expected: label"):
        Poj104(str(tmp_path)).read("test")


def test_methods_of_big_clone_bench_have_one_id_each(tmp_path):
    rows = [{"idx": 1, "func": "a"}, {"idx": "1", "func": "b"}]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "test.txt").write_text("1\t1\t1\n")
    with pytest.raises(UserError, match="data.jsonl:2: `idx` 1 is another method's"):
        BigCloneBench(str(tmp_path)).read("test")


def parquet(path: Path, **columns: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize(
    "columns, said",
    [
        ({"label": [0, -7]}, "row 1: label -7 is none of 0 to 1"),
        ({"label": [0, 10**12]}, "row 1: label 1000000000000 is none"),
        ({"label": [-1, -1]}, "label -1 is none of 0 to 1; test sets have no labels"),
        ({"label": [0, None]}, "row 1, has nothing in column 'label'"),
        ({"label": ["0", "1"]}, "column 'label' is string, not whole number"),
        ({"label": [0.0, 1.0]}, "column 'label' is double, not whole number"),
        ({"label": [True, False]}, "column 'label' is bool"),
        ({"sentence": ["a", None]}, "row 1, has nothing in column 'sentence'"),
        ({"sentence": [1, 2]}, "column 'sentence' is int64, not text"),
        ({"sentence": [["a"], ["b"]]}, "column 'sentence' is list"),
        ({"sentence": pa.array([b"a", b"caf\xe9"], pa.binary()).view(pa.string())}, "(?i)utf-?8"),
    ],
)
def test_glue_labels_and_texts_have_their_types(tmp_path, columns, said):
    good = {"sentence": ["a", "b"], "label": [0, 1]}
    file = parquet(tmp_path / "sst2/train-00000-of-00001.parquet", **(good | columns))
    with pytest.raises(UserError, match=said) as error:
        Glue("sst2", str(tmp_path)).read("train")
    assert str(file) in str(error.value)


NO_ROWS = {"sentence": pa.array([], pa.string()), "label": pa.array([], pa.int64())}


@pytest.mark.parametrize("kind", ["no rows", "web page", "pointer", "cut", "empty", "folder"])
def test_parquet_that_is_none(tmp_path, kind):
    file = parquet(tmp_path / "sst2/train-00000-of-00001.parquet", **NO_ROWS)
    content = file.read_bytes()
    other = {"web page": b"<html>", "pointer": b"version https://git-lfs", "cut": content[:-9], "empty": b""}
    if kind == "folder":
        file.unlink()
        file.mkdir()
    elif kind in other:
        file.write_bytes(other[kind])
    with pytest.raises(UserError, match="no rows|web page|Git LFS|download it again|is a folder") as error:
        Glue("sst2", str(tmp_path)).read("train")
    assert str(file) in str(error.value)


@pytest.mark.parametrize("content", ["", "\n\n", "<!DOCTYPE html>\n<html>\n", "one line of words\n", "gj04\t7\t\tA.\n"])
def test_cola_without_examples_is_an_error(tmp_path, content):
    (tmp_path / "CoLA").mkdir()
    (tmp_path / "CoLA/train.tsv").write_text(content)
    with pytest.raises(UserError, match="no examples|web page|broken"):
        Glue("cola", str(tmp_path)).read("train")


@pytest.mark.parametrize("label", ["-1", "3", "1000000000000", "1_0", "²", "", "0,x", "joy", "9" * 5000])
def test_goemotions_labels(tmp_path, label):
    (tmp_path / "labels.txt").write_text("joy\nlove\n")
    (tmp_path / "train.tsv").write_text(f"so happy\t0\tid\nwell\t{label}\tid\n")
    with pytest.raises(UserError, match="train.tsv, line 2") as error:
        GoEmotions(str(tmp_path)).read("train")
    assert len(str(error.value)) < 1000
    (tmp_path / "labels.txt").write_text("joy\njoy\n")
    with pytest.raises(UserError, match="labels.txt is not one emotion a line, each once"):
        GoEmotions(str(tmp_path))


@pytest.mark.parametrize("score", ["-1", "5.1", "nan", "inf", "1_0", "２", "2,5", "", "0x1", "9" * 5000])
def test_scores_are_numbers_from_0_to_5(tmp_path, score):
    row = "g\tf\t2012\t1\t{}\ta\tb\n"
    (tmp_path / "sts-test.csv").write_text(row.format("2.5") + row.format(score), encoding="utf-8")
    with pytest.raises(UserError, match="sts-test.csv, line 2, is not a score from 0 to 5"):
        STSBenchmark(str(tmp_path)).read("test")


def test_empty_lines_at_the_end_are_none(tmp_path):
    (tmp_path / "sts-test.csv").write_text("g\tf\t2012\t1\t2.5\ta\tb\n\n\n")
    header = "pair_ID\tsentence_A\tsentence_B\trelatedness_score\n"
    (tmp_path / "SICK_train.txt").write_text(header + "1\ta\tb\t3\n \n\n")
    assert len(STSBenchmark(str(tmp_path)).read("test")) == len(Sick(str(tmp_path)).read("train")) == 1
    folder = tmp_path / "STS13-en-test"
    folder.mkdir()
    for name in ("FNWN", "OnWN", "headlines", "ALL"):
        (folder / f"STS.input.{name}.txt").write_text("a\tb\nc\td\n")
        (folder / f"STS.gs.{name}.txt").write_text("1\n\n\n")  # nobody scored the second pair
    assert len(SemEvalSTS(2013, str(tmp_path)).read("test")) == 3
    assert len(SemEvalSTS(2013, str(tmp_path)).read("train")) == 6
    (tmp_path / "sts-dev.csv").write_text("")
    with pytest.raises(UserError, match="sts-dev.csv"):
        STSBenchmark(str(tmp_path)).read("val")


def test_triplets_of_the_wrong_kind(tmp_path):
    good = {"text": ["t", "u"], "code_a": ["a", "b"], "code_b": [None, "c"]}
    file = parquet(tmp_path / "a.parquet", **good)
    with pytest.raises(UserError, match="held_out is 3, but .* have 2 rows"):
        CodeTriplets(str(file), held_out=3).read("val")
    for change, said in (
        ({"code_a": ["a", None]}, "row 1, has nothing"),
        ({"code_a": ["a", " "]}, "row 1, has no code"),
    ):
        parquet(file, **(good | change))
        with pytest.raises(UserError, match=said):
            CodeTriplets(str(file)).read("train")


def test_repositories_of_the_wrong_kind(tmp_path):
    files = [[{"content": "x"}], [None, {"content": None}]]
    file = parquet(tmp_path / "a.parquet", repo_name=["r", "s"], files=files)
    assert StackRepositories(str(file))[1].name == "r"
    for columns, said in (
        ({"repo_name": [1, 2]}, "'repo_name' is int64, not text"),
        ({"repo_name": ["r", None]}, "row 1 of row group 0, has no `repo_name`"),
        ({"files": [[{"content": 1}], []]}, "without `content`"),
        ({"repo_name": pa.array([], pa.string()), "files": pa.array(files)[:0]}, "has no rows"),
    ):
        parquet(file, **({"repo_name": ["r", "s"], "files": files} | columns))
        with pytest.raises(UserError, match=said):
            StackRepositories(str(file))[1]


@pytest.mark.parametrize(
    "columns, said",
    [
        ({"label": [0, -1]}, "row 1 of .* has label -1"),
        ({"label": [0, None]}, "row 1 of .* has label None"),
        ({"label": ["a", "b"]}, "'label' is string, not whole number"),
        ({"image": [{"path": "a"}, {"path": "b"}]}, "has no images in it"),
        ({"image": [{"bytes": "a"}, {"bytes": "b"}]}, "has no images in it"),
        ({"caption": [1, 2]}, "'caption' is int64"),
    ],
)
def test_picture_tables_of_the_wrong_kind(tmp_path, columns, said):
    good = {"image": [{"bytes": b"a"}, {"bytes": b"b"}], "label": [0, 1]}
    with pytest.raises(UserError, match=said):
        ImageParquet(str(parquet(tmp_path / "a.parquet", **(good | columns))))


def test_a_broken_one_among_several_tables_is_named(tmp_path):
    good = {"image": [{"bytes": b"a"}], "label": [0]}
    parquet(tmp_path / "a.parquet", **good)
    (tmp_path / "b.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match="b.parquet as parquet"):
        ImageParquet(str(tmp_path / "*.parquet"))
    parquet(tmp_path / "b.parquet", **good, more=[1])
    with pytest.raises(UserError, match="have different columns"):
        ImageParquet(str(tmp_path / "*.parquet"))
    broken = pa.table(good).replace_schema_metadata(
        {"huggingface": '{"info": {"features": {"label": {"names": "ab"}}}}'}
    )
    pq.write_table(broken, tmp_path / "c.parquet")
    with pytest.raises(UserError, match="metadata are damaged"):
        ImageParquet(str(tmp_path / "c.parquet"))


@pytest.mark.parametrize("content", [b"", b"[1]", b"{}", b'{"caption": null}', b'{"caption": ["a"]}', b"[" * 100_000])
def test_captions_of_videos_are_text(content):
    with pytest.raises(UnreadableSample, match="some name: its .json has no caption"):
        read_caption(content, "some name")


def test_a_folder_without_pictures_is_no_class(tmp_path):
    for name in ("val/n1", "val/lost+found", "val/.cache"):
        (tmp_path / name).mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(tmp_path / "val/n1/a.JPEG", "JPEG")
    with pytest.raises(UserError, match=r"lost\+found holds no \*.JPEG"):
        ImageNet(str(tmp_path), "val")
    (tmp_path / "val/lost+found").rmdir()
    assert ImageNet(str(tmp_path), "val").classes == ("n1",)
    (tmp_path / "LOC_synset_mapping.txt").write_bytes(b"n1 caf\xe9\n")
    with pytest.raises(UserError, match="LOC_synset_mapping.txt, line 1, byte 6: not UTF-8"):
        ImageNet(str(tmp_path), "val")


def test_python_files_that_cannot_be_parsed_are_told(tmp_path, recwarn):
    odd = {"deep": "x = " + "-" * 100_000 + "1", "long": "x = a" + ".b" * 50_000, "rot": "# coding: rot13\nx = 1"}
    for name, text in odd.items():
        (tmp_path / f"{name}.py").write_text(text)
    (tmp_path / "folder.py").mkdir()
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "good.py").write_text("def f(x):\n    return '\\d' is x\n")
    found = read_folder(tmp_path)
    assert set(found.skipped) == {"deep.py", "long.py", "rot.py", "folder.py", "pipe.py"} and all(
        found.skipped.values()
    )
    assert [function.name for function in found.functions] == ["f"]
    assert not [warning for warning in recwarn if issubclass(warning.category, SyntaxWarning | DeprecationWarning)]


def test_captions_of_pictures(tmp_path):
    (tmp_path / "val").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "val/7.jpg")
    content = {
        "images": [{"id": 7, "file_name": "/mine/val2014/7.jpg"}],
        "annotations": [{"id": k, "image_id": 7, "caption": f"words {k}"} for k in (2, 1)],
    }
    file = tmp_path / "captions.json"
    file.write_text(json.dumps(content))
    source = CocoCaptions(str(tmp_path / "val"), str(file))
    assert (source[0].name, source[0].caption) == ("7.jpg", "words 1")
    for odd, said in (
        ({"images": [{"id": 7, "file_name": "8.jpg"}]}, "none of the pictures in .* is in"),
        ({"images": content["images"] * 2}, "an image id or a file twice"),
        ({"images": [{"id": True, "file_name": "7.jpg"}]}, r"images\[0\].id"),
        ({"annotations": [{"id": 1, "image_id": 7, "caption": None}]}, r"annotations\[0\].caption: .*string"),
        ({"annotations": [{"id": 1, "image_id": 8, "caption": "a"}]}, "has no captions for its pictures"),
        ({"annotations": 5}, "annotations: Input should be a valid array"),
    ):
        file.write_text(json.dumps(content | odd))
        with pytest.raises(UserError, match=said):
            CocoCaptions(str(tmp_path / "val"), str(file))


def test_pictures_are_upright_but_where_masks_count_their_pixels(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.new("RGB", (6, 4)).save(tmp_path / "a.jpg", exif=exif)
    content = (tmp_path / "a.jpg").read_bytes()
    assert decode_rgb(content, "a.jpg").shape == (6, 4, 3)
    assert decode_rgb(content, "a.jpg", orient=False).shape == (4, 6, 3)


# sources, before a run


def config(**arguments: object) -> dict[str, object]:
    reader = {"class_path": "common.data.readers.sts.Sick", "init_args": arguments}
    unlabelled = {"class_path": "common.data.pairs.Unlabelled", "init_args": {"sources": [reader, reader]}}
    return {"data": {"train": unlabelled, "batch_size": 4}, "model": {"class_path": "torch.nn.Linear"}}


def test_readers_are_found_at_any_depth_and_tried_once(tmp_path):
    assert list(readers(config(root="a"))) == [("common.data.readers.sts.Sick", {"root": "a"})]
    with pytest.raises(UserError, match="no SICK in .*SICK_train.txt is missing"):
        check_sources(config(root=str(tmp_path)))
    check_sources(config())  # its root is what another stage writes


@pytest.mark.parametrize(
    "path, arguments, said",
    [
        ("common.data.readers.sts.Sik", {"root": ""}, "there is no reader common.data.readers.sts.Sik"),
        ("common.data.readers.stts.Sick", {"root": ""}, "there is no reader"),
        ("common.data.readers.sts.Sick", {"rot": ""}, "Sick has no argument rot, only root"),
        (
            "common.data.readers.imagenet.ImageNet",
            {"root": "a", "split": "val", "per_class": "many"},
            "cannot be made with",
        ),
        ("common.data.readers.sts.Sick", {"root": "$NO_SUCH_FOLDER"}, "NO_SUCH_FOLDER is not set"),
    ],
)
def test_readers_that_do_not_exist(path, arguments, said):
    with pytest.raises(UserError, match=said):
        check_source(path, arguments)


def test_tars_are_tried_at_both_ends(tmp_path):
    for first in (1, 11187, 22373):
        make_sa1b(tmp_path, images=2, resolution=(8, 12), first=first)
    reader, arguments = "common.data.readers.sa1b.SA1B", {"root": str(tmp_path), "offset": 5}
    check_source(reader, arguments)
    middle, last = sorted(tmp_path.glob("*.tar"))[1:]
    middle.write_bytes(b"")  # cheap: the stage itself indexes all of them
    check_source(reader, arguments)
    last.write_bytes(last.read_bytes()[:3000])
    with pytest.raises(UserError, match=f"{last.name} is "):
        check_source(reader, arguments)


def test_a_split_that_no_stage_reads_may_be_absent(tmp_path):
    reader, arguments = "common.data.readers.clones.Poj104", {"root": str(tmp_path)}
    with pytest.raises(UserError, match="train.jsonl is missing"):
        check_source(reader, arguments)
    (tmp_path / "test.jsonl").write_text('{"code": "a", "label": 1}\n')
    check_source(reader, arguments)
    (tmp_path / "test.jsonl").write_text('{"code": "a", "label": -1}\n')
    with pytest.raises(UserError, match="test.jsonl, line 1"):
        check_source(reader, arguments)
