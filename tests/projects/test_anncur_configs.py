"""ANNCUR's configs: each is understood by its stage, holds the paper's settings, and compares arms fairly."""

import runpy
import sys
from pathlib import Path

import pytest
import torch
import yaml

from benchmarks.planning.stages import configuration
from benchmarks.running.recipes import ROOT, load
from common.recipe import walk
from projects.anncur.data import LinkingData
from projects.anncur.distill import AnchorData
from projects.anncur.harness.plan import workload
from projects.anncur.world import LinkingWorld

CONFIGS = ROOT / "projects/anncur/configs"
STAGES = {
    (scale, stage.name): stage for scale in ("mini", "paper") for arm in load("anncur").arms(scale).values()
    for stage in walk(arm.stages)
}  # fmt: skip


def read(scale: str, name: str) -> dict:
    return yaml.safe_load((CONFIGS / scale / f"{name}.yaml").read_text())


@pytest.mark.parametrize(("scale", "name"), STAGES)
def test_a_stage_understands_its_config(scale, name, monkeypatch, capsys):
    stage = STAGES[scale, name]
    overrides = [f"--{key}=somewhere" for key in stage.overrides if key.endswith(("weights", "scores"))]
    overrides += ["--model.method=tf_idf"] if name == "evaluate" else []
    argv = [stage.module, stage.run, "--config", str(CONFIGS / scale / f"{name}.yaml"), *overrides, "--print_config"]
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setenv("DATA_ROOT", "somewhere")
    monkeypatch.delitem(sys.modules, stage.module, raising=False)
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(stage.module, run_name="__main__")
    assert not ended.value.code
    parsed = yaml.safe_load(capsys.readouterr().out)
    assert parsed["data"]["search"] == {"mini": "search", "paper": "yugioh"}[scale]


@pytest.mark.parametrize("scale", ["mini", "paper"])
def test_every_stage_sees_the_same_data(scale):
    names = sorted({name for s, name in STAGES if s == scale})
    loading = {"batch_size", "val_queries", "num_workers"}
    seen = [{k: v for k, v in read(scale, name)["data"].items() if k not in loading} for name in names]
    assert all(data == seen[0] for data in seen)
    assert seen[0]["search"] not in [*seen[0]["train"], *seen[0]["val"]]  # zero-shot


@pytest.mark.parametrize("scale", ["mini", "paper"])
def test_both_cross_encoders_and_all_distillations_are_trained_alike(scale):
    """But for the learning rates of the distillations at mini scale, which come from the same grid."""

    def settings(name: str) -> dict:
        config = read(scale, name)
        own = ("kind", "loss", "lr") if scale == "mini" and name.startswith("distill") else ("kind", "loss")
        model = {k: v for k, v in config["model"].items() if k not in own}
        return {"model": model, "trainer": config["trainer"], "data": config["data"]}

    assert settings("emb_cross_encoder") == settings("cls_cross_encoder")
    assert settings("distill_match") == settings("distill_bert")
    match, triplet = read(scale, "distill_match"), read(scale, "distill_triplet")
    same = ("top", "weight_decay", "train_embeddings") + (("lr",) if scale == "paper" else ())
    assert all(match["model"][key] == triplet["model"][key] for key in same)
    if scale == "mini":  # as many texts in as many steps: a query with its n items, or pairs of items with their query
        assert match["trainer"] == triplet["trainer"]
        texts = match["data"]["batch_size"] * (1 + match["model"]["top"]), triplet["data"]["batch_size"] * 3
        assert 0.9 < texts[0] / texts[1] < 1.1


def test_the_paper_s_settings():
    emb, dual = read("paper", "emb_cross_encoder"), read("paper", "dual_encoder")
    for config, batch in ((emb, 32), (dual, 8)):
        assert config["model"]["negatives"] == config["model"]["hard"] == 63
        assert (config["model"]["lr"], config["model"]["weight_decay"], config["model"]["warmup"]) == (1e-5, 0.01, 0.01)
        assert not config["model"]["train_embeddings"]
        assert config["data"]["batch_size"] * config["trainer"]["accumulate_grad_batches"] == batch
        assert config["trainer"]["max_epochs"] == 4 and config["trainer"]["gradient_clip_val"] == 1
        assert len(config["data"]["train"]) == 8 and len(config["data"]["val"]) == 4
    for name in ("distill_match", "distill_triplet", "distill_bert"):
        config = read("paper", name)
        assert config["model"]["top"] == 100 and config["trainer"]["max_epochs"] == 10
        assert config["data"]["anchor_queries"] == 500


@pytest.mark.parametrize("name", sorted({name for scale, name in STAGES if scale == "paper"}))
def test_a_stage_can_be_planned(name):
    stage = STAGES["paper", name]
    with torch.device("meta"):
        planned = workload(stage, configuration(stage))
        planned.step(2)
    trained = sum(p.numel() for p in planned.model.parameters() if p.requires_grad)
    layers = 85_054_464  # the encoder layers of BERT-base
    towers = 2 if name.startswith(("dual", "distill")) else 1
    assert trained == (0 if stage.run != "fit" else towers * layers + (769 if name.startswith("cls") else 0))


def test_a_tenth_of_the_anchor_queries_chooses_the_checkpoint():
    data = AnchorData(per_query=3, source=None, train=[], val=[], search="", anchor_queries=20, seed=1)
    train, val = data._samples(held_out=False), data._samples(held_out=True)
    assert sorted([*train, *val]) == list(range(60)) and len(val) == 2 * 3
    assert {s // 3 for s in train}.isdisjoint(s // 3 for s in val)


def test_the_searched_mentions_are_drawn_once_and_the_anchors_by_seed():
    def data(seed: int) -> LinkingData:
        world = LinkingWorld(40, 60)
        return LinkingData(world, [], [], "here", search_mentions=30, anchor_queries=10, item_rows=8, seed=seed)

    first, second = data(0), data(1)
    assert first.search_domain == second.search_domain and len(first.search_domain.mentions) == 30
    assert (first.row_items == second.row_items).all() and len(first.items_as_queries()) == 8
    assert first.anchors_and_tests()[0].tolist() != second.anchors_and_tests()[0].tolist()


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*/*.yaml")), ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_a_config_begins_with_what_it_does(file: Path):
    assert file.read_text().startswith("# ")
