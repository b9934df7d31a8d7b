"""ANNCUR's configs: each is understood by its stage, holds the paper's settings, and compares arms fairly."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from benchmarks.planning.stages import configuration
from benchmarks.running.recipes import ROOT, load, settings
from common.recipe import walk
from projects.anncur.data import LinkingData
from projects.anncur.distill import AnchorData
from projects.anncur.harness.plan import SEARCHED as QUERIES_AND_ITEMS
from projects.anncur.harness.plan import workload
from projects.anncur.ranker import Ranker
from projects.anncur.retrieval import anncur, candidates, fixed_items, fixed_items_uncounted, oracle, popular
from projects.anncur.world import LinkingWorld

CONFIGS = ROOT / "projects/anncur/configs"
STAGES = {
    (scale, stage.name): stage for scale in ("mini", "paper") for arm in load("anncur").arms(scale).values()
    for stage in walk(arm.stages)
}  # fmt: skip


def read(scale: str, name: str) -> dict:
    """What a stage's config says on top of what all stages share."""
    return settings(STAGES[scale, name], scale)


@pytest.mark.parametrize(("scale", "name"), STAGES)
def test_a_stage_understands_its_config(scale, name, monkeypatch, shown_config):
    stage = STAGES[scale, name]
    overrides = [f"--{key}=somewhere" for key in stage.overrides if key.endswith(("weights", "scores", "pretrained"))]
    overrides += ["--model.method=tf_idf"] if name == "evaluate" else []
    configs = [f"--config={CONFIGS / scale / file}.yaml" for file in ("base", name)]
    monkeypatch.setenv("DATA_ROOT", "somewhere")
    parsed = yaml.safe_load(shown_config(stage.module, stage.run, *configs, *overrides))
    assert parsed["data"]["search"] == {"mini": "search {seed}", "paper": "yugioh"}[scale]


@pytest.mark.parametrize("scale", ["mini", "paper"])
def test_every_stage_sees_the_same_data(scale):
    names = sorted({name for s, name in STAGES if s == scale})
    loading = {"batch_size", "val_queries", "num_workers", "hidden", "whole"}
    searched = {"search_mentions", "anchor_queries", "item_rows"}  # what training on other domains does not read
    others = {"bert", "dual_encoder", "emb_cross_encoder", "cls_cross_encoder"}
    seen = [{k: v for k, v in read(scale, name)["data"].items() if k not in loading | searched} for name in names]
    assert all(data == seen[0] for data in seen)
    matrices = [{k: read(scale, name)["data"].get(k) for k in searched} for name in names if name not in others]
    assert len(matrices) > 3 and all(matrix == matrices[0] for matrix in matrices)
    assert seen[0]["search"] not in [*seen[0]["train"], *seen[0]["val"]]  # zero-shot


@pytest.mark.parametrize("scale", ["mini", "paper"])
def test_both_cross_encoders_and_all_distillations_are_trained_alike(scale):
    """But for the learning rates of the distillations at mini scale, for each of which two were tried."""

    def differing(name: str) -> dict:
        config = read(scale, name)
        own = ("kind", "loss", "lr") if scale == "mini" and name.startswith("distill") else ("kind", "loss")
        model = {k: v for k, v in config["model"].items() if k not in own}
        return {"model": model, "trainer": config["trainer"], "data": config["data"]}

    assert differing("emb_cross_encoder") == differing("cls_cross_encoder")
    assert differing("distill_match") == differing("distill_bert")
    match, triplet = read(scale, "distill_match"), read(scale, "distill_triplet")
    same = ("top", "weight_decay", "train_embeddings") + (("lr",) if scale == "paper" else ())
    assert all(match["model"][key] == triplet["model"][key] for key in same)
    if scale == "mini":  # as many texts in as many steps: a query with its n items, or pairs of items with their query
        assert match["trainer"] == triplet["trainer"]
        texts = match["data"]["batch_size"] * (1 + match["model"]["top"]), triplet["data"]["batch_size"] * 3
        assert 0.9 < texts[0] / texts[1] < 1.1


TRAINED = {"emb_cross_encoder": 8, "cls_cross_encoder": 8, "dual_encoder": 16}
DISTILLED = {"distill_match": 8, "distill_bert": 8, "distill_triplet": 64}
MENTIONS, ANCHORS, SEARCHED = 49275, 450, 3374  # of the training worlds; for distilling; of YuGiOh


@pytest.mark.parametrize(("name", "batch"), [*TRAINED.items(), *DISTILLED.items()])
def test_steps_and_schedule_are_the_official_ones(name, batch):
    """Queries per step, over all GPUs of the official runs, and the steps that its code plans with.

    Batches of the trained encoders follow from the official checkpoints' names: step 15,999 in the third and step
    12,279 in the second epoch of the cross-encoders, 12,039 in the fourth of the dual encoder.
    """
    config = read("paper", name)
    model, data, trainer = config["model"], config["data"], config["trainer"]
    assert data["batch_size"] * trainer["accumulate_grad_batches"] == batch
    named = {"emb_cross_encoder": (3, 15999), "cls_cross_encoder": (2, 12279), "dual_encoder": (4, 12039)}
    if name in TRAINED:
        epoch, step = named[name]
        a_epoch = MENTIONS / batch
        assert (epoch - 1) * a_epoch < step < epoch * a_epoch and trainer["max_epochs"] == 4
        assert model["schedule_steps"] == MENTIONS // 2 * 4
    else:
        samples = ANCHORS * (model["top"] if model["loss"] == "triplet" else 1)
        assert samples // batch == {8: 56, 64: 703}[batch] and trainer["max_epochs"] == 10
        assert model["schedule_steps"] == SEARCHED // {8: 1, 64: 8}[batch] * 10


@pytest.mark.parametrize(("planned", "taken", "end"), [(None, 100, 0.01), (400, 100, 0.7525), (50, 100, 0.0)])
def test_the_learning_rate_follows_the_plan_and_not_the_steps(planned, taken, end, monkeypatch):
    monkeypatch.setattr("projects.anncur.ranker.optimizer_steps", lambda trainer: taken)
    net = torch.nn.ModuleDict({"encoder": torch.nn.Linear(2, 2)})
    ranker = Ranker(net, 1.0, 0.01, 0.0, True, planned)
    ranker._trainer = object()
    made = ranker.configure_optimizers()
    rates = []
    for _ in range(taken):
        rates.append(made["optimizer"].param_groups[0]["lr"])
        made["optimizer"].step()
        made["lr_scheduler"]["scheduler"].step()
    assert rates[0] == 1 and rates[-1] == pytest.approx(end)


def test_the_paper_s_settings():
    for name in TRAINED:
        config = read("paper", name)
        assert config["model"]["negatives"] == config["model"]["hard"] == 63
        assert (config["model"]["lr"], config["model"]["weight_decay"], config["model"]["warmup"]) == (1e-5, 0.01, 0.01)
        assert not config["model"]["train_embeddings"]
        assert config["trainer"]["gradient_clip_val"] == 1
        assert len(config["data"]["train"]) == 8 and len(config["data"]["val"]) == 4
    for name in DISTILLED:
        config = read("paper", name)
        assert config["model"]["top"] == 100 and config["model"]["warmup"] == 0
        assert config["data"]["anchor_queries"] == 500


def evaluations() -> list[tuple[str, str, dict]]:
    """Every arm's last stage with its settings: (scale, arm, config)."""
    found = []
    for scale in ("mini", "rehearsal", "paper"):
        for name, arm in load("anncur").arms(scale).items():
            stage = arm.stages[-1]
            config = settings(stage, scale)
            for key, value in stage.overrides.items():
                part, setting = key.split(".", 1)
                config[part][setting] = value
            found.append((scale, name, config))
    return found


@pytest.mark.parametrize("scale", ["mini", "rehearsal", "paper"])
def test_every_budget_can_be_spent_by_every_method(scale, monkeypatch):
    """Candidates for the smallest and largest number of calls that a config asks for, on matrices of its size."""
    nothing = lambda rows, anchors, rcond=0.0: np.zeros((len(anchors), rows.shape[1]))  # noqa: E731 - what is found
    monkeypatch.setattr("projects.anncur.retrieval.item_embeddings", nothing)  # does not matter here
    monkeypatch.setattr("projects.anncur.retrieval.oracle_link", lambda a, rows, cols: np.zeros((len(cols), len(rows))))
    sizes = {"mini": (220, 600), "rehearsal": (14, 30)}
    seen = set()
    for scale_, arm, config in evaluations():
        if scale_ != scale:
            continue
        model, data = config["model"], config["data"]
        mentions, items = sizes.get(scale) or QUERIES_AND_ITEMS[data["search"]]
        budget, queries = model["budget"], data["anchor_queries"]
        asked = [*model["budgets"], budget, budget // 2, 2 * budget, 2 * queries]
        assert max(asked) <= items and max(model["ks"]) <= items and queries < (data.get("search_mentions") or mentions)
        assert model["budget"] >= max(model["ks"]) or scale != "paper"
        if model.get("explore"):
            assert max(model["grid_queries"]) <= queries and max(model["grid_items"]) <= items, arm
            assert model["grid_retrieved"] <= items
        key = (model["method"], queries, data["item_rows"], tuple(asked))
        if key in seen or model["method"] in ("random", "tf_idf", "dual_encoder"):
            continue
        seen.add(key)
        rng, items = np.random.default_rng(0), max(asked)  # no more items than are needed
        rows, exact, item_rows = (rng.standard_normal((n, items)) for n in (queries, 2, data["item_rows"]))
        fixed = np.arange(data["item_rows"])
        assert data["item_rows"] >= queries or "item" not in model["method"]
        method = {
            "anncur": lambda a=rows, b=exact: anncur(a, b, 0),
            "oracle": lambda a=rows, b=exact: oracle(a, b, 0),
            "popular": lambda a=rows, b=exact: popular(a, b),
            "item_cur": lambda a=item_rows, b=exact, n=queries: anncur(a[:n], b, 0),
            "fixed_items": lambda a=item_rows, b=exact, f=fixed: fixed_items(a, f, b, 0),
            "fixed_items_uncounted": lambda a=item_rows, b=exact, f=fixed, n=queries: fixed_items_uncounted(
                a, f, b, n, 0
            ),
        }[model["method"]]()
        for calls in (min(asked), max(asked)):
            chosen = candidates(method(max(1, round(0.5 * calls))), calls)
            assert all(len(set(row)) == min(calls, items) for row in chosen.tolist()), (arm, calls)


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


def test_at_mini_scale_seeds_share_the_bert_alone():
    arms = load("anncur").arms("mini")
    shared = {stage.name for arm in arms.values() for stage in walk(arm.stages) if stage.shared}
    assert shared == {"bert"}
    world = LinkingWorld(40, 60)
    first, second = (LinkingData(world, [], [], "here {seed}", search_mentions=30, seed=seed) for seed in (0, 1))
    assert first.name == "here 0" and first.search_domain.entities != second.search_domain.entities
