"""SinKD at small scale: what students begin as, and that all of them are given the same."""

import pytest
import torch
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2Model,
)

from benchmarks.running.recipes import load
from common.data.tokenizers import build_wordpieces
from common.errors import UserError
from common.recipe import walk
from projects.sinkd.cut import Cut, Once, cut

SIZES = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 300}


def bert(layers: int = 6) -> BertModel:
    torch.manual_seed(0)
    return BertModel(BertConfig(**SIZES, num_hidden_layers=layers))


@pytest.mark.parametrize(("layers", "kept"), [(1, [0]), (2, [0, 5]), (3, [0, 2, 5]), (6, [0, 1, 2, 3, 4, 5])])
def test_first_and_last_layer_are_kept_and_others_between(layers, kept):
    before = [layer.output.dense.weight for layer in bert().encoder.layer]
    net = cut(bert(), layers)
    assert net.config.num_hidden_layers == layers
    for k, layer in zip(kept, net.encoder.layer, strict=True):
        assert torch.equal(layer.output.dense.weight, before[k])


def test_layers_that_are_not_there_are_refused():
    for layers in (0, 7):
        with pytest.raises(UserError, match=f"model.layers is {layers}: the encoder has 6"):
            cut(bert(), layers)
    with pytest.raises(UserError, match="of a GPT2Model no layers can be taken"):
        cut(GPT2Model(GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=300)), 1)


def test_a_student_begins_as_these_layers_with_the_encoder_s_tokenizer(tmp_path):
    bert().save_pretrained(tmp_path / "source")
    build_wordpieces(["a few words"], 120).save_pretrained(tmp_path / "source")
    stage = Cut(str(tmp_path / "source"), 2)
    stage.run_dir = tmp_path
    (step,) = Once().predict_dataloader()
    stage.predict_step(step, 0)
    student = AutoModelForSequenceClassification.from_pretrained(tmp_path / "encoder", num_labels=28)
    whole = AutoModel.from_pretrained(tmp_path / "source")
    assert len(student.bert.encoder.layer) == 2
    assert torch.equal(student.bert.embeddings.word_embeddings.weight, whole.embeddings.word_embeddings.weight)
    both = [AutoTokenizer.from_pretrained(tmp_path / name)("a few words") for name in ("source", "encoder")]
    assert both[0]["input_ids"] == both[1]["input_ids"]


def test_students_differ_in_their_loss_alone_and_begin_as_the_same_layers():
    arms = load("sinkd").arms("small")
    students = {
        name: next(stage for stage in walk(arm.stages) if stage.name == "student")
        for name, arm in arms.items() if name != "teacher"
    }  # fmt: skip
    loss = {f"model.{name}" for name in ("divergence", "alpha", "temperature", "beta", "group")}
    assert {frozenset(set(one.overrides) - loss) for one in students.values()} == {
        frozenset({"model.teacher_weights", "model.net.pretrained"})
    }
    settings = [tuple(sorted((k, v) for k, v in one.overrides.items() if k in loss)) for one in students.values()]
    assert len(set(settings)) == len(students) == 8
    begins = {one.overrides["model.net.pretrained"].stage for one in students.values()}
    assert len(begins) == 1 and next(iter(begins)).shared
    for name, student in students.items():
        evaluate = arms[name].stages[-1]
        assert evaluate.overrides["model.net.pretrained"] == student.overrides["model.net.pretrained"]
