"""Trans-Encoder's readers on every layout, on the real files, and the world's similarity."""

import gzip
import logging
import os
from collections import Counter
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from common.data.pairs import Pair, Unlabelled
from common.data.readers.sts import SUBSETS, SemEvalSTS, Sick, STSBenchmark
from common.data.worlds.sentence_pairs import WEIGHTS, Scene, SentencePairs, Stories, draw_scene, edit, say, similarity
from common.errors import UserError
from projects.trans_encoder import sources
from projects.trans_encoder.data import PairData, agreement
from projects.trans_encoder.evaluate import lexical_overlap
from projects.trans_encoder.sources import PairFile, PairTask

DATA = Path(os.environ.get("DATA_ROOT", "../shared/data")) / "sts"
real = pytest.mark.skipif(not DATA.exists(), reason=f"no STS files at {DATA}: set DATA_ROOT")


def write(file: Path, lines: list[str], end: str = "\n") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes("".join(line + end for line in lines).encode())


@pytest.mark.parametrize("prefix", ["STS", "STS2016"])
def test_a_year_as_senteval_has_it(tmp_path, prefix, caplog):
    folder = tmp_path / "STS16-en-test"
    for number, name in enumerate(SUBSETS[2016]):
        write(
            folder / f"{prefix}.input.{name}.txt",
            [f'he said "{number}\tshe said\tremark\tremark', "a\tb", "c\td"],
            "\r\n",
        )
        write(folder / f"{prefix}.gs.{name}.txt", ["5", "", "2.5"])
    source = SemEvalSTS(2016, str(tmp_path))
    test, train = source.read("test"), source.read("train")
    assert len(test) == 2 * 5 and len(train) == 3 * 5  # nobody scored the second line
    assert test[0] == Pair('he said "0', "she said", 1.0) and test[1] == Pair("c", "d", 0.5)
    assert {pair.score for pair in train} == {None}
    assert not caplog.records and not source.missing()
    write(folder / f"{prefix}.gs.headlines.txt", ["5"])
    with pytest.raises(UserError, match="3 lines and .*gs.headlines.txt 1"):
        source.read("test")


@pytest.mark.parametrize("file", ["2012/MSRpar.test.tsv", "2012.test.tsv"])
def test_a_year_in_tables(tmp_path, file, caplog):
    write(tmp_path / file, ["4.0\tone\ttwo", "\tthree\tfour", '0\t"five\tsix '])
    with caplog.at_level(logging.WARNING):
        assert SemEvalSTS(2012, str(tmp_path)).read("test") == [Pair("one", "two", 0.8), Pair('"five', "six", 0.0)]
    assert ("lacks MSRvid" in caplog.text) == ("/" in file)  # a year in parts shows what is missing
    write(tmp_path / file, ["4.0\tone\ttwo", "7\tthree\tfour"])
    with pytest.raises(UserError, match="line 2, is not a score from 0 to 5"):
        SemEvalSTS(2012, str(tmp_path)).read("test")


def test_the_sts_benchmark(tmp_path):
    lines = ['main-news\tMSRpar\t2012test\t0001\t5.000\tHe said "no\tHe said so\tsource', "main\tx\t2012\t2\t0.5\ta\tb"]
    write(tmp_path / "csv/sts-dev.csv", lines)
    packed = tmp_path / "gz/stsbenchmark.tsv.gz"
    packed.parent.mkdir()
    rows = [
        "split\tgenre\tscore\tsentence1\tsentence2",
        'dev\tmain\t5.0\tHe said "no\tHe said so',
        "train\tmain\t1\tc\td",
    ]
    packed.write_bytes(gzip.compress("".join(f"{row}\n" for row in [*rows, "dev\tmain\t0.5\ta\tb"]).encode()))
    expected = [Pair('He said "no', "He said so", 1.0), Pair("a", "b", 0.1)]
    for folder in ("csv", "gz"):
        assert STSBenchmark(str(tmp_path / folder)).read("val") == expected
    with pytest.raises(UserError, match="(?s)sts-test.csv is missing.*Stsbenchmark.tar.gz"):
        STSBenchmark(str(tmp_path / "csv")).read("test")
    write(tmp_path / "csv/sts-dev.csv", ["main\tx\t2012\t2\t0.5\ta"])
    with pytest.raises(UserError, match="line 1"):
        STSBenchmark(str(tmp_path / "csv")).read("val")


def test_sick(tmp_path):
    write(
        tmp_path / "SICK_trial.txt",
        ["pair_ID\tsentence_A\tsentence_B\trelatedness_score\tentailment", "4\ta\tb\t3.5\tNEUTRAL"],
    )
    assert Sick(str(tmp_path)).read("val") == [Pair("a", "b", 0.7)]
    with pytest.raises(UserError, match="SICK_test_annotated.txt is missing"):
        Sick(str(tmp_path)).read("test")
    write(tmp_path / "SICK_train.txt", ["pair_ID\tsentence_A", "1\ta"])
    with pytest.raises(UserError, match="no column relatedness_score, sentence_B"):
        Sick(str(tmp_path)).read("train")


def test_questions_that_ask_the_same(tmp_path, monkeypatch):
    folder = tmp_path / "quora-IR-dataset/classification"
    header = "qid1\tqid2\tquestion1\tquestion2\tis_duplicate"
    for part, labels in (("train", "10"), ("dev", "01"), ("test", "110")):
        rows = [f'{k}\t{k}\t{part} "{k}?\tso {k}?\t{label}' for k, label in enumerate(labels)]
        write(folder / f"{part}_pairs.tsv", [header, *rows])
    source = PairTask("qqp", str(tmp_path))
    assert source.binary and source.read("val") == [Pair('dev "0?', "so 0?", 0.0), Pair('dev "1?', "so 1?", 1.0)]
    everything = source.read("train")
    assert len(everything) == 7 and {pair.score for pair in everything} == {None}
    monkeypatch.setitem(sources.QQP_SIZES, "test", 2)
    assert len(source.read("test")) == 2  # the first ones
    write(folder / "dev_pairs.tsv", [header, "1\t2\ta\tb\tyes"])
    with pytest.raises(UserError, match="dev_pairs.tsv, line 2, is not two sentences and 0 or 1"):
        source.read("val")
    with pytest.raises(UserError, match="(?s)train_pairs.tsv is missing.*quora-IR-dataset.zip"):
        PairTask("qqp", str(tmp_path / "glue")).read("train")


def test_questions_and_answers(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "QNLI_VAL", 2)
    monkeypatch.setattr(sources, "QNLI_TRAIN", 3)
    columns = ["question", "sentence", "label"]
    parquet(
        tmp_path / "glue/qnli/train-00000-of-00001.parquet", columns, [(f"q{k}?", f"s{k}", k % 2) for k in range(5)]
    )
    parquet(tmp_path / "glue/qnli/validation-00000-of-00001.parquet", columns, [(f"v{k}?", "s", 0) for k in range(5)])
    source = PairTask("qnli", str(tmp_path))
    assert [pair.a for pair in source.read("val")] == ["v0?", "v1?"]
    assert [pair.a for pair in source.read("test")] == ["v2?", "v3?", "v4?"]
    assert {pair.score for pair in source.read("test")} == {1.0}  # entailment, the first class
    assert [pair.a for pair in source.read("train")] == ["q0?", "q1?", "q2?", "v0?", "v1?", "v2?", "v3?", "v4?"]


@pytest.mark.parametrize("layout", ["hub", "corpus"])
def test_paraphrases(tmp_path, layout):
    rows = [("a", "b", 1), ("c", "d", 0)]
    for part in ("train", "validation", "test"):
        if part != "test" or layout == "hub":
            file = tmp_path / f"glue/mrpc/{part}-00000-of-00001.parquet"
            parquet(file, ["sentence1", "sentence2", "label"], [(f"{part} {a}", b, label) for a, b, label in rows])
    if layout == "corpus":
        header = "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String"
        write(
            tmp_path / "glue/MRPC/msr_paraphrase_test.txt",
            [header, *(f"{label}\t1\t2\ttest {a}\t{b}" for a, b, label in rows)], "\r\n",
        )  # fmt: skip
    source = PairTask("mrpc", str(tmp_path))
    assert source.read("test") == [Pair("test a", "b", 1.0), Pair("test c", "d", 0.0)]
    assert len(source.read("train")) == 6 and source.read("val")[0].score == 1
    for file in (*tmp_path.glob("glue/mrpc/test*"), *tmp_path.glob("glue/MRPC/*")):
        file.unlink()
    with pytest.raises(UserError, match="no test set of MRPC"):
        source.read("test")


def parquet(file: Path, columns: list[str], rows: list[tuple]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist([dict(zip(columns, row, strict=True)) for row in rows]), file)


def test_pairs_of_one_s_own(tmp_path):
    file = tmp_path / "my pairs.txt"
    write(file, ['\ufeffHe said "no || he said so', "", "a | b\tc || d", "one\ttwo\t0.5"], "\r\n")
    source = PairFile(str(file))
    assert source.read("train") == [Pair('He said "no', "he said so"), Pair("a | b", "c || d"), Pair("one", "two", 0.5)]
    with pytest.raises(UserError, match="pair 1, has no score, and is to be validated on"):
        source.read("val")
    for line in ("alone", "a\tb\tnan", "a\tb\tmuch", "a\t", "a || b || c || d", "a\tb\t1\t2"):
        write(file, ["a || b", line])
        with pytest.raises(UserError, match="line 2, is not a pair"):
            source.read("train")
    write(file, ["a\tb\t2"])
    assert source.read("val") == [Pair("a", "b", 2.0)]
    with pytest.raises(UserError, match="line 1: 2 is neither 1"):
        PairFile(str(file), binary=True).read("val")
    write(file, [""])
    with pytest.raises(UserError, match="holds no pairs"):
        source.read("train")
    with pytest.raises(UserError, match="no file .*nothing"):
        PairFile(str(tmp_path / "nothing")).read("train")


@real
def test_the_real_files_hold_what_their_tasks_say():
    sizes = {2012: 2358, 2013: 1500, 2014: 3750, 2015: 3000, 2016: 1186}  # 2012 without MSRvid's 750
    for year, size in sizes.items():
        source = SemEvalSTS(year, str(DATA / "semeval-sts"))
        pairs = source.read("test")
        assert len(pairs) == size + (750 if year == 2012 and not source.missing() else 0)
        assert all(0 <= pair.score <= 1 and pair.a and pair.b for pair in pairs)
    assert len(SemEvalSTS(2015, str(DATA / "semeval-sts")).read("train")) == 8500
    sick = Sick(str(DATA / "sick2014"))
    assert [len(sick.read(split)) for split in ("train", "val", "test")] == [4500, 500, 4927]


@real
def test_common_words_tell_something_on_the_real_files():
    for pairs in (Sick(str(DATA / "sick2014")).read("test"), SemEvalSTS(2015, str(DATA / "semeval-sts")).read("test")):
        gold = torch.tensor([pair.score for pair in pairs])
        assert 0.5 < agreement(False)(lexical_overlap(pairs), gold) < 0.8


def test_unlabelled_pairs_are_all_splits_once_without_scores():
    source = SentencePairs(train=5, val=4, test=3)
    pairs = Unlabelled([source, source], ("train", "val", "test")).read("train")
    assert len(pairs) == 12 and {pair.score for pair in pairs} == {None}
    assert {(pair.a, pair.b) for pair in pairs} == {
        (pair.a, pair.b) for split in ("train", "val", "test") for pair in source.read(split)
    }


def test_the_world_s_similarity():
    scene = Scene(agent=0, action=3, target=7, quality=1, place=2)
    assert similarity(scene, scene) == pytest.approx(1) and sum(WEIGHTS.values()) == pytest.approx(1)
    rng = Random(0)
    for name, weight in WEIGHTS.items():
        other = edit(scene, [name], rng)
        assert getattr(other, name) != getattr(scene, name)
        assert 1 - weight - 1e-9 < similarity(scene, other) < 1
        assert similarity(scene, other) == pytest.approx(similarity(other, scene))
    swapped = Scene(agent=7, action=3, target=0, quality=1, place=2)
    assert similarity(scene, swapped) <= 1 - WEIGHTS["agent"] - WEIGHTS["target"] + 0.4 * 0.45
    assert similarity(scene, Scene(0, 3, 7, None, 2)) == pytest.approx(1 - 0.7 * WEIGHTS["quality"])


def test_a_scene_is_said_in_many_ways():
    scene = draw_scene(Random(1))
    assert len({say(scene, Random(k)) for k in range(50)}) > 25
    assert say(scene, Random(3)) == say(scene, Random(3))


def test_the_world_s_pairs():
    pairs = SentencePairs(train=400, val=50, test=400).read("train")
    assert pairs[:50] == SentencePairs(train=50).read("train")
    assert not {pair[:2] for pair in pairs} & {pair[:2] for pair in SentencePairs(test=400).read("test")}
    scores = [pair.score for pair in pairs]
    assert min(scores) < 0.2 and scores.count(pytest.approx(1)) > 30 and len({round(score, 3) for score in scores}) > 80
    words = Counter(word for pair in pairs for word in f"{pair.a} {pair.b}".split())
    assert len(words) < 150
    overlap = agreement(False)(lexical_overlap(pairs), torch.tensor(scores))
    assert 0.2 < overlap < 0.7  # words alone say something, not all
    assert all(pair.score is None for pair in Stories(3).read("train"))


def test_sentences_of_a_story_share_more_than_others():
    stories = Stories(300).read("train")
    overlap = (
        lexical_overlap(stories),
        lexical_overlap([Pair(p.a, q.b) for p, q in zip(stories, stories[1:], strict=False)]),
    )
    same, other = (scores.mean().item() for scores in overlap)
    assert same > 0.4 > 0.25 > other
    assert agreement(True)(torch.cat(overlap), torch.arange(599) < 300) > 0.9  # what a language model can learn to tell


def test_both_orders_and_a_limit():
    source = SentencePairs(train=20, val=4)
    data = PairData(source, source, both_orders=True)
    assert len(data.rows) == 40
    assert all(row == pair.swapped for row, pair in zip(data.rows[20:], data.pairs, strict=True))
    assert PairData(source, source).rows == data.pairs
    few = PairData(source, source, limit=7, seed=1).pairs
    assert len(few) == 7 and set(few) < set(data.pairs)
    assert few == PairData(source, source, limit=7, seed=1).pairs != PairData(source, source, limit=7, seed=2).pairs
