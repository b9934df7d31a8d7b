"""SinKD's data: GLUE in its three layouts, GoEmotions, the world of sentences, tokenizers and batches."""

import os
from pathlib import Path

import pytest
import torch

from common.data.classified import EvaluationData, TextData, all_texts, collate
from common.data.readers.glue import TASKS, Glue
from common.data.readers.goemotions import GoEmotions
from common.data.text import LabelledText
from common.data.tokenizers import build_wordpieces
from common.errors import UserError
from common.rehearsal.datasets import write_parquet
from projects.sinkd.harness.rehearsal import rows
from projects.sinkd.harness.speed import speed
from projects.sinkd.world import THINGS, Sentences

DATA = Path(os.environ.get("DATA_ROOT", "../shared/data"))


def real(folder: str) -> Path:
    path = DATA / folder
    if not path.exists():
        pytest.skip(f"no real data at {path}: set DATA_ROOT")
    return path


def parts(task: str) -> dict[str, int]:
    if task == "mnli":
        return {"train": 9, "validation_matched": 4, "validation_mismatched": 5}
    return {"train": 9, "validation": 4}


def write_hub_layout(root: Path, task: str) -> None:
    for part, count in parts(task).items():
        write_parquet(root / task / f"{part}-00000-of-00001.parquet", rows(TASKS[task], count))


def write_archive_layout(root: Path, task: str) -> None:
    """The columns that the reader needs, in a header that has others too; CoLA has none."""
    layout = TASKS[task]
    folder = root / layout.folder
    folder.mkdir()
    for part, count in parts(task).items():
        lines = [] if task == "cola" else [("index", layout.tsv_text, layout.tsv_pair or "-", layout.tsv_label)]
        for k, row in enumerate(rows(layout, count)):
            label = str(row["label"]) if layout.tsv_label != "gold_label" else layout.classes[row["label"]]
            if task in ("qnli", "rte"):
                label = layout.classes[row["label"]]
            pair = row[layout.pair] if layout.pair else ""
            lines.append(
                ("gj04", label, "*", row[layout.text]) if task == "cola" else (k, row[layout.text], pair, label)
            )
        text = "\n".join("\t".join(map(str, line)) for line in lines) + "\n"
        (folder / f"{part.replace('validation', 'dev')}.tsv").write_text(text)


@pytest.mark.parametrize("task", TASKS)
def test_glue_reads_the_same_from_the_hub_s_files_and_from_the_benchmark_s(task, tmp_path):
    (tmp_path / "archive").mkdir()
    write_hub_layout(tmp_path / "hub", task)
    write_archive_layout(tmp_path / "archive", task)
    hub, archive = (Glue(task, str(tmp_path / layout)) for layout in ("hub", "archive"))
    for split in ("train", "val", "test"):
        assert hub.read(split) == archive.read(split)
    assert len(hub.read("train")) == 9 and len(hub.read("val")) == 9 - 5 * (task != "mnli")
    assert (hub.read("train")[0].pair is None) == (task in ("cola", "sst2"))


def test_mnli_s_development_sets_can_be_read_apart(tmp_path):
    write_hub_layout(tmp_path, "mnli")
    counts = {dev: len(Glue("mnli", str(tmp_path), dev).read("val")) for dev in ("matched", "mismatched", "both")}
    assert counts == {"matched": 4, "mismatched": 5, "both": 9}


def test_glue_reads_quotes_and_byte_order_marks_as_they_are(tmp_path):
    (tmp_path / "SST-2").mkdir()
    (tmp_path / "SST-2/train.tsv").write_text('\ufeffsentence\tlabel\r\n"an open quote\t1\r\nplain\t0\r\n')
    assert Glue("sst2", str(tmp_path)).read("train") == [
        LabelledText('"an open quote', None, 1),
        LabelledText("plain", None, 0),
    ]


def test_glue_tolerates_a_broken_line_but_not_many(tmp_path, caplog):
    (tmp_path / "SST-2").mkdir()
    file = tmp_path / "SST-2/train.tsv"
    file.write_text("sentence\tlabel\ngood\t1\nbroken\n")
    assert len(Glue("sst2", str(tmp_path)).read("train")) == 1 and "broken line" in caplog.text
    file.write_text("sentence\tlabel\ngood\t1\nbroken\nlabel is none\t7\n")
    with pytest.raises(UserError, match="more than 0.1 %"):
        Glue("sst2", str(tmp_path)).read("train")


@pytest.mark.parametrize(
    ("content", "said"),
    [({}, "no SST-2 in"), ({"train.tsv": "text\tlabel\n"}, "no column 'sentence', only text, label")],
)
def test_glue_says_what_is_missing(tmp_path, content, said):
    (tmp_path / "SST-2").mkdir()
    for name, text in content.items():
        (tmp_path / "SST-2" / name).write_text(text)
    with pytest.raises(UserError, match=said) as raised:
        Glue("sst2", str(tmp_path)).read("train")
    assert "huggingface.co/datasets/nyu-mll/glue" in str(raised.value)


def test_glue_says_which_parquet_is_missing_or_wrong(tmp_path):
    write_parquet(tmp_path / "rte/train-00000-of-00001.parquet", [{"sentence1": "a", "label": 0}])
    with pytest.raises(UserError, match=r"no validation-\*.parquet"):
        Glue("rte", str(tmp_path)).read("val")
    with pytest.raises(UserError, match="no column 'sentence2', only sentence1, label"):
        Glue("rte", str(tmp_path)).read("train")
    (tmp_path / "rte/train-00000-of-00001.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(UserError, match="not a parquet file"):
        Glue("rte", str(tmp_path)).read("train")


def test_the_real_cola():
    cola = Glue("cola", str(real("cola")))
    train, dev = cola.read("train"), cola.read("val")
    assert len(train) == 8551 and len(dev) == 1043  # GLUE's development set is the two files together
    assert {example.label for example in train} == {0, 1}
    assert sum(example.label for example in dev) / len(dev) == pytest.approx(0.69, abs=0.01)
    batch = collate(train[:64], build_wordpieces(all_texts(train), 4000), max_length=128)
    unknown = (batch["input_ids"] == 1).sum() / batch["attention_mask"].sum()
    assert batch["labels"].shape == (64,) and unknown < 0.1


def test_the_real_goemotions():
    source = GoEmotions(str(real("goemotions")))
    assert len(source.classes) == 28 and source.classes[-1] == "neutral"
    train, val, test = (source.read(split) for split in ("train", "val", "test"))
    assert 0.82 < len(train) / 43410 < 0.86 and len(val) < 5426 and len(test) < 5427
    assert {example.label for example in train} == set(range(28))


def test_sentences_are_the_same_whatever_the_size_of_the_split():
    small, large = Sentences(train=20), Sentences(train=40)
    assert small.read("train") == large.read("train")[:20]
    assert small.read("train") != Sentences(val=20).read("val")


def test_the_student_of_the_speed_bench_has_the_released_size():
    student = {network.name: network for network in speed().networks}["student, 6 layers"]
    net, (tokens,) = student.build()
    assert 66e6 < sum(p.numel() for p in net.parameters()) < 67.5e6 and tokens.shape == (1, 128)


def test_no_sentence_is_in_two_splits():
    world = Sentences(train=2000, val=1000, test=1000)
    train, val, test = ({example.text for example in world.read(split)} for split in ("train", "val", "test"))
    assert len(train) + len(val) + len(test) == len(train | val | test) == 4000


def test_a_sentence_s_topic_is_what_most_of_its_clauses_are_about():
    topics = {word: topic for topic, words in enumerate(THINGS) for word in words}
    right = 0
    examples = Sentences(test=300).read("test")
    for example in examples:
        named = [topics[word] for word in example.text.split() if word in topics]
        assert len(named) == 3
        right += max(named, key=named.count) == example.label // 2
    assert 0.75 < right / len(examples) < 0.95  # no reader is always right


def test_a_seed_draws_its_own_training_all_texts():
    world = Sentences(train=50, val=5)
    first, again, other = (TextData(world, train_examples=10, seed=seed).train for seed in (0, 0, 1))
    assert first == again != other and len(first) == 10
    assert set(first) <= set(world.read("train"))


def test_the_test_set_is_read_task_by_task_in_the_order_of_names(tmp_path):
    world = Sentences(test=5)
    build_wordpieces(all_texts(world.read("test")), 300).save_pretrained(tmp_path)
    data = EvaluationData({"b": Sentences(test=3), "a": world}, str(tmp_path))
    first, second, *validation = (next(iter(loader)) for loader in data.test_dataloader())
    assert [len(batch["labels"]) for batch in validation] == [
        min(len(data.tasks[name].read("val")), data.eval_batch_size) for name in "ab"
    ]
    assert torch.equal(first["labels"], torch.tensor([example.label for example in world.read("test")]))
    assert len(second["labels"]) == 3
