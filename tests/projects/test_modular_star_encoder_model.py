"""ModularStarEncoder's trunk, exits and losses: closed forms, invariances, who gets gradients, the golden vectors."""

import math
import os
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file, save_model
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics.retrieval import RetrievalMAP, RetrievalMRR
from transformers import Starcoder2Config

from common.errors import UserError
from common.evaluators.retrieval import PairedRetrieval, SameClassRetrieval, paired_ranks
from common.losses.contrastive import clip_loss
from projects.modular_star_encoder.clones import CloneDetection
from projects.modular_star_encoder.finetune import Finetuning
from projects.modular_star_encoder.harness.cost import PAPER_EXITS, PAPER_TOKENS, exit_cost, saved
from projects.modular_star_encoder.model import (
    MultiExitEncoder,
    PretrainingHeads,
    Trunk,
    TrunkSizes,
    at_most_unit,
    exit_weights,
    load_encoder,
    load_trunk,
    pool,
)
from projects.modular_star_encoder.pretrain import Pretraining

FILE = Path(os.environ.get("GOLDEN_ROOT", "../shared/golden")) / "modular_star_encoder.safetensors"
golden = pytest.mark.skipif(not FILE.exists(), reason=f"no golden vectors at {FILE}: set GOLDEN_ROOT")
SIZES = TrunkSizes(hidden=16, feed_forward=24, layers=4, heads=4, kv_heads=2, max_length=32, dropout=0.0, init_std=0.3)
TOKENS, EXITS = 23, (1, 2, 4)


def case(name: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safe_open(FILE, "pt") as file:
        tensors = {
            k.removeprefix(f"{name}/"): file.get_tensor(k) for k in list(file.keys()) if k.startswith(f"{name}/")
        }
        words = {k.removeprefix(f"{name}/"): v for k, v in file.metadata().items() if k.startswith(f"{name}/")}
    return tensors, words


def encoder(exits=EXITS, seed: int = 0, **sizes) -> MultiExitEncoder:
    torch.manual_seed(seed)
    return MultiExitEncoder(TrunkSizes(**{**SIZES.__dict__, **sizes}), TOKENS, exits).eval()


def ids(rows: int = 3, length: int = 7) -> Tensor:
    return torch.randint(TOKENS, (rows, length), generator=torch.Generator().manual_seed(1))


def units(rows: int, width: int = 8, seed: int = 0) -> Tensor:
    return F.normalize(torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)), dim=-1)


@golden
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_golden_bidirectional_encoder(attention):
    tensors, words = case("bidir_encoder")
    state = {k.removeprefix("state."): v for k, v in tensors.items() if k.startswith("state.")}
    sizes = {name: int(words[name]) for name in ("hidden_size", "intermediate_size", "num_hidden_layers")}
    sizes |= {name: int(words[name]) for name in ("num_attention_heads", "num_key_value_heads")}
    config = Starcoder2Config(
        vocab_size=len(state["embed_tokens.weight"]), hidden_act=words["act"],
        norm_epsilon=float(words["norm_epsilon"]),
        rope_parameters={"rope_type": "default", "rope_theta": float(words["rope_theta"])}, bos_token_id=None,
        eos_token_id=None, attn_implementation=attention, **sizes,
    )  # fmt: skip
    trunk = Trunk(config).eval()
    trunk.load_state_dict(state)
    mask = tensors["in.attention_mask"]
    found = trunk(tensors["in.input_ids"], mask)
    assert len(found) == sizes["num_hidden_layers"] + 1
    for k, states in enumerate(found):
        torch.testing.assert_close(states[mask == 1], tensors[f"out.hidden_{k}"][mask == 1], atol=1e-5, rtol=1e-5)


@golden
def test_golden_pool_norm():
    tensors, _ = case("pool_norm")
    pooled = pool(tensors["in.x"], tensors["in.mask"])
    torch.testing.assert_close(at_most_unit(pooled), tensors["out.emb"], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(pooled.norm(dim=-1), tensors["out.norm"], atol=1e-5, rtol=1e-5)


@golden
def test_golden_clip_loss():
    tensors, words = case("clip_loss")
    a = tensors["in.a"].requires_grad_()
    loss = clip_loss(a, tensors["in.b"], float(words["temperature_multiplier"]))
    (gradient,) = torch.autograd.grad(loss, a)
    torch.testing.assert_close(loss, tensors["out.loss"], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(gradient, tensors["out.grad_a"], atol=1e-5, rtol=1e-5)


@golden
def test_golden_retrieval():
    tensors, _ = case("retrieval")
    metric = PairedRetrieval()
    for rows in (slice(0, 4), slice(4, None)):
        metric.update(tensors["in.source"][rows], tensors["in.target"][rows])
    found = metric.compute()
    for name in ("r1", "r5", "mrr"):
        torch.testing.assert_close(found[name], tensors[f"out.{name}"].float(), atol=1e-5, rtol=1e-5)


def test_the_loss_is_open_clips_and_symmetric():
    a, b = units(6), units(6, seed=1)
    theirs = open_clip.ClipLoss()(a, b, logit_scale=10.0)
    torch.testing.assert_close(clip_loss(a, b, 10.0), theirs)
    torch.testing.assert_close(clip_loss(a, b, 10.0), clip_loss(b, a, 10.0))


def test_the_loss_of_equal_orthonormal_embeddings():
    eye = torch.eye(5)
    assert clip_loss(eye, eye, 10.0).item() == pytest.approx(math.log(1 + 4 * math.exp(-10)), rel=1e-3)


def test_weights_grow_with_depth_over_all_layers():
    weights = exit_weights(PAPER_EXITS, 36)
    assert weights == [4 / 36, 9 / 36, 18 / 36, 27 / 36, 1.0] and sum(weights) == pytest.approx(2.6111, abs=1e-4)


def test_the_paper_sizes():
    counts = {4: 161_566_720, 9: 300_602_880, 18: 550_867_968, 27: 801_133_056, 36: 1_051_398_144}
    config = TrunkSizes().config(PAPER_TOKENS)
    for layers, count in counts.items():
        with torch.device("meta"):
            trunk = Trunk(config, layers)
        norm = 0 if layers == 36 else 2 * 1024  # the library's class of so few layers would have one more LayerNorm
        assert sum(p.numel() for p in trunk.parameters()) + norm == count
        assert sum(p.numel() for p in trunk.layers[0].parameters()) == 27_807_232
    head = 2 * (1024 * 1024 + 1024)
    assert exit_cost(TrunkSizes(), PAPER_TOKENS, 4, 8).params == counts[4] - 2048 + head


def test_the_first_exit_saves_what_its_layers_do_not_do():
    cost = {i: exit_cost(SIZES, TOKENS, i, 6) for i in (1, 2, 4)}
    block = cost[2].flops - cost[1].flops
    assert cost[4].flops - cost[2].flops == 2 * block
    head = 2 * 2 * 16 * 16  # two layers, <cls> alone, a multiply-add is two
    assert cost[1].flops == block + head
    assert saved(TrunkSizes(), PAPER_TOKENS, PAPER_EXITS, 64) == pytest.approx(32 / 36, abs=0.01)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("padded", [False, True])
def test_it_sees_in_both_directions(attention, padded):
    trunk = encoder(attention=attention).trunk
    words = ids(2, 6)
    mask = torch.ones_like(words) if padded else None
    if mask is not None:
        mask[:, :2] = 0
    other = words.clone()
    other[:, -1] = (other[:, -1] + 1) % TOKENS
    for before, after in zip(trunk(words, mask)[1:], trunk(other, mask)[1:], strict=True):
        assert (before[:, 3] - after[:, 3]).abs().max() > 1e-4  # an earlier token's state


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_more_padding_on_the_left_changes_no_embedding(attention):
    net, words = encoder(attention=attention), ids()
    mask = torch.ones_like(words)
    plain = net(words, mask)
    longer = net(F.pad(words, (4, 0), value=5), F.pad(mask, (4, 0)))
    unmasked = net(words)
    for i in EXITS:
        torch.testing.assert_close(plain[i], longer[i], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(plain[i], unmasked[i], atol=1e-5, rtol=1e-4)


def test_pooling_takes_the_last_token_on_either_side_of_the_padding():
    hidden = torch.arange(24.0).reshape(2, 4, 3)
    left, right = torch.tensor([[0, 0, 1, 1]] * 2), torch.tensor([[1, 1, 0, 0]] * 2)
    assert torch.equal(pool(hidden, left), hidden[:, 3]) and torch.equal(pool(hidden, right), hidden[:, 1])
    assert torch.equal(pool(hidden), hidden[:, 3])


def test_short_vectors_stay_as_they_are():
    x = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    torch.testing.assert_close(at_most_unit(x), torch.tensor([[0.6, 0.8], [0.3, 0.4], [0.0, 0.0]]))


def test_only_the_whole_trunk_ends_with_a_norm():
    whole = encoder().trunk
    for parameter in whole.norm.parameters():
        nn.init.normal_(parameter)
    states = whole(ids())
    plain = whole.layers[3]
    whole.norm = nn.Identity()
    raw = whole(ids())
    assert all(torch.equal(a, b) for a, b in zip(states[:4], raw[:4], strict=True))
    assert not torch.allclose(states[4], raw[4]) and plain is whole.layers[3]


def test_a_cut_model_gives_the_embedding_of_the_whole_one(tmp_path):
    whole = encoder()
    save_model(whole, str(tmp_path / "whole.safetensors"))
    for exits in ((1,), (2,), (1, 2), (4,)):
        cut = load_encoder(encoder(exits, seed=5), tmp_path / "whole.safetensors")
        assert len(cut.trunk.layers) == max(exits)
        for i in exits:
            torch.testing.assert_close(cut(ids())[i], whole(ids())[i])
    with pytest.raises(UserError, match=r"has no exit 3; its exits: 1, 2, 4"):
        load_encoder(encoder((3,)), tmp_path / "whole.safetensors")


def touched(module: nn.Module) -> set[str]:
    return {name for name, p in module.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}


def test_an_exits_loss_reaches_the_layers_below_it_and_its_own_head_alone():
    for i in EXITS:
        net = encoder()
        out = net(ids())[i], net(ids().flip(1))[i]
        clip_loss(*out, 10.0).backward()
        reached = touched(net)
        assert {name for name in reached if name.startswith("projections.")} == {
            f"projections.{i}.{k}.{kind}" for k in (0, 2) for kind in ("weight", "bias")
        }
        layers = {int(name.split(".")[2]) for name in reached if name.startswith("trunk.layers.")}
        assert layers == set(range(i))
        assert ("trunk.norm.weight" in reached) == (i == 4)


def test_the_lower_layers_get_the_weighted_sum_of_all_exits_gradients():
    def gradient(weights: dict[int, float]) -> Tensor:
        net = encoder()
        a, b = net(ids()), net(ids().flip(1))
        torch.stack([alpha * clip_loss(a[i], b[i], 10.0) for i, alpha in weights.items()]).sum().backward()
        return net.trunk.layers[0].mlp.c_fc.weight.grad

    alphas = dict(zip(EXITS, exit_weights(EXITS, 4), strict=True))
    summed = sum(alpha * gradient({i: 1.0}) for i, alpha in alphas.items())
    torch.testing.assert_close(gradient(alphas), summed)


def test_projecting_every_token_and_pooling_is_projecting_the_pooled_one():
    net, words = encoder(), ids()
    states = net.trunk(words)
    for i in EXITS:
        torch.testing.assert_close(net(words)[i], at_most_unit(net.projections[str(i)](states[i])[:, -1]))


def test_heads_are_shared_and_told_which_exit_it_is():
    torch.manual_seed(0)
    heads = PretrainingHeads(16, TOKENS, exits=3)
    features = torch.randn(5, 16)
    assert heads.exit.weight.shape == (3, 4)
    assert not torch.allclose(heads.words(features, 0), heads.words(features, 1))
    assert not torch.allclose(heads.belongs(features, 0), heads.belongs(features, 2))
    with torch.no_grad():
        heads.exit.weight.copy_(heads.exit.weight[:1].expand(3, 4))
    assert torch.equal(heads.words(features, 0), heads.words(features, 2))
    assert heads.words(features, 0).shape == (5, TOKENS) and heads.belongs(features, 0).shape == (5, 2)


def pretraining_batch() -> dict[str, Tensor]:
    words = ids(4, 8)
    labels = torch.full_like(words, -100)
    labels[:, 2:4] = words[:, 2:4]
    mask = torch.ones_like(words)
    mask[0, :1] = 0
    return {"input_ids": words, "attention_mask": mask, "labels": labels, "together": torch.tensor([0, 1, 1, 0])}


@pytest.mark.parametrize("objective", ["icc", "mlm"])
def test_pretraining_adds_both_terms_at_every_exit_by_depth(objective, monkeypatch):
    torch.manual_seed(0)
    stage = Pretraining(SIZES, EXITS, TOKENS, objective)
    logged: dict[str, Tensor] = {}
    monkeypatch.setattr(stage, "log", lambda name, value: logged.update({name: value.detach()}))
    loss = stage.training_step(pretraining_batch(), 0)
    terms = ("mlm", "context") if objective == "icc" else ("mlm",)
    expected = sum(i / 4 * logged[f"train/{term}_{i}"] for i in EXITS for term in terms)
    torch.testing.assert_close(loss.detach(), expected)
    assert set(logged) == {"train/loss", *(f"train/{term}_{i}" for i in EXITS for term in terms)}
    loss.backward()
    assert all(parameter.grad is not None for parameter in stage.parameters())  # as data parallel training needs it


def test_the_first_term_is_bert_s_and_looks_at_hidden_tokens_alone(monkeypatch):
    torch.manual_seed(0)
    stage = Pretraining(SIZES, (4,), TOKENS, "mlm")
    monkeypatch.setattr(stage, "log", lambda *_: None)
    batch = pretraining_batch()
    states = stage.trunk(batch["input_ids"], batch["attention_mask"])[4]
    logits = stage.heads.words(states.flatten(0, 1), 0)
    expected = F.cross_entropy(logits, batch["labels"].flatten(), ignore_index=-100)
    torch.testing.assert_close(stage.training_step(batch, 0), expected)


def test_the_schedule_warms_up_and_falls_in_steps():
    stage = Pretraining(SIZES, EXITS, TOKENS, lr=1.0, warmup_steps=4, milestones=(6, 8), decay=0.5)
    made = stage.configure_optimizers()
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(10):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step(), schedule.step()
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 0.5, 0.5, 0.25, 0.25])
    group = optimizer.param_groups[0]
    assert (group["betas"], group["eps"], group["weight_decay"]) == ((0.9, 0.95), 1e-6, 0.1)


@pytest.mark.parametrize("prefix", ["", "starEncoder2.", "model.trunk."])
def test_a_trunk_is_found_in_a_file_by_the_library_s_names(tmp_path, prefix):
    torch.manual_seed(1)
    whole = Trunk(SIZES.config(TOKENS))
    state = {prefix + key: value.clone() for key, value in whole.state_dict().items()}
    heads = {"head.weight": torch.zeros(2)} if prefix else {}
    save_file({key: value.bfloat16() for key, value in (state | heads).items()}, tmp_path / "x.safetensors")
    for layers in (2, None):
        trunk = Trunk(SIZES.config(TOKENS), layers)
        load_trunk(trunk, str(tmp_path / "x.safetensors"), "model.trunk")
        assert trunk.embed_tokens.weight.dtype == torch.float32
        torch.testing.assert_close(
            trunk.layers[1].mlp.c_fc.weight, whole.layers[1].mlp.c_fc.weight, atol=0.01, rtol=0.01
        )


def test_a_file_without_or_with_another_trunk_is_an_error(tmp_path):
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(UserError, match="holds no trunk"):
        load_trunk(Trunk(SIZES.config(TOKENS)), str(tmp_path / "x.safetensors"), "model.trunk")
    save_model(Trunk(SIZES.config(TOKENS)), str(tmp_path / "y.safetensors"))
    with pytest.raises(UserError, match="of another shape"):
        load_trunk(Trunk(SIZES.config(TOKENS + 1)), str(tmp_path / "y.safetensors"), "model.trunk")


@pytest.mark.parametrize("exits", [(), (2, 1), (0, 2), (1, 5), (2, 2)])
def test_exits_that_are_no_rising_layers_are_an_error(exits):
    with pytest.raises(UserError, match="not rising layers of 1 to 4"):
        encoder(exits)


@pytest.mark.parametrize(
    ("exits", "weighting", "expected"),
    [((1, 2, 4), "depth", [0.25, 0.5, 1.0]), ((1, 2, 4), "uniform", [1.75 / 3] * 3), ((2,), "depth", [1.0])],
)
def test_the_weights_of_the_arms(tmp_path, exits, weighting, expected, monkeypatch):
    torch.manual_seed(0)
    save_model(Trunk(SIZES.config(TOKENS)), str(tmp_path / "t.safetensors"))
    stage = Finetuning(SIZES, exits, TOKENS, str(tmp_path / "t.safetensors"), weighting)
    logged: dict[str, Tensor] = {}
    monkeypatch.setattr(stage, "log", lambda name, value: logged.update({name: value.detach()}))
    monkeypatch.setattr(stage, "log_dict", lambda values: logged.update({k: v.detach() for k, v in values.items()}))
    batch = {"input_ids": ids(), "attention_mask": torch.ones_like(ids())}
    other = {"input_ids": ids().flip(1), "attention_mask": torch.ones_like(ids())}
    loss = stage.training_step((batch, other), 0)
    assert stage.weights == pytest.approx(expected)
    summed = sum(alpha * logged[f"train/clip_{i}"] for i, alpha in zip(exits, expected, strict=True))
    torch.testing.assert_close(loss.detach(), summed)
    assert len(stage.encoder.trunk.layers) == exits[-1]
    loss.backward()
    assert all(parameter.grad is not None for parameter in stage.parameters())


def test_clone_detection_classifies_cls_at_every_exit_by_depth(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="give --model.trunk"):
        CloneDetection(SIZES, EXITS, TOKENS)
    torch.manual_seed(0)
    save_model(Trunk(SIZES.config(TOKENS)), str(tmp_path / "t.safetensors"))
    stage = CloneDetection(SIZES, EXITS, TOKENS, str(tmp_path / "t.safetensors"))
    monkeypatch.setattr(stage, "log", lambda *_: None)
    batch = {"input_ids": ids(4), "attention_mask": torch.ones(4, 7).long(), "labels": torch.tensor([0, 1, 1, 0])}
    states = stage.net.trunk(batch["input_ids"])
    losses = [F.cross_entropy(stage.net.heads[str(i)](states[i][:, -1]), batch["labels"]) for i in EXITS]
    expected = sum(i / 4 * loss for i, loss in zip(EXITS, losses, strict=True))
    torch.testing.assert_close(stage.training_step(batch, 0), expected)
    save_model(stage.net, str(tmp_path / "n.safetensors"))
    again = CloneDetection(SIZES, EXITS, TOKENS, weights=str(tmp_path / "n.safetensors"))
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), stage.parameters(), strict=True))


def test_ranks_and_what_follows_from_them():
    queries, candidates = torch.eye(3), torch.tensor([[1.0, 0.0, 0.0], [0.9, 0.5, 0.0], [0.0, 0.6, 0.5]])
    assert paired_ranks(queries, candidates).tolist() == [1, 2, 1]
    assert paired_ranks(torch.ones(3, 2), torch.ones(3, 2)).tolist() == [3, 3, 3]  # all alike: nothing is found
    metric = PairedRetrieval()
    metric.update(queries, candidates)
    found = metric.compute()
    assert found["mrr"].item() == pytest.approx((1 + 0.5 + 1) / 3) and found["r1"].item() == pytest.approx(2 / 3)
    assert found["ndcg"].item() == pytest.approx((2 + 1 / math.log2(3)) / 3)


def test_retrieval_is_torchmetrics_where_scores_differ():
    a, b = units(40), units(40, seed=1)
    metric = PairedRetrieval()
    metric.update(a, b)
    scores = a @ b.T
    rows = torch.arange(40).repeat_interleave(40)
    # shifted, because torchmetrics takes a negative score for a candidate that is not there
    theirs = RetrievalMRR()(scores.flatten() + 2, torch.eye(40).flatten().long(), indexes=rows)
    torch.testing.assert_close(metric.compute()["mrr"], theirs)


def test_distractors_are_ranked_and_nobody_s_answer():
    queries, candidates = torch.eye(2), torch.tensor([[0.5, 0.0], [0.0, 0.9]])
    metric = PairedRetrieval()
    metric.update(queries, candidates)
    assert metric.compute()["mrr"].item() == 1
    metric.update(queries[:0], candidates[:0], torch.tensor([[0.7, 0.0], [0.8, 0.1]]))
    found = metric.compute()
    assert found["mrr"].item() == pytest.approx((1 / 3 + 1) / 2) and found["r1"].item() == 0.5


@pytest.mark.parametrize("layers", [36, 9])
def test_a_released_fine_tuned_encoder_loads_whole_or_cut(tmp_path, layers):
    sizes = TrunkSizes(**{**SIZES.__dict__, "layers": 36})
    exits = [i for i in PAPER_EXITS if i <= layers][-5:] if layers == 36 else [layers]
    torch.manual_seed(0)
    whole = MultiExitEncoder(sizes, TOKENS, exits).eval()
    released = {f"starEncoder2.{name}": value for name, value in whole.trunk.state_dict().items()}
    for number, i in enumerate(exits):
        head = whole.projections[str(i)].state_dict()
        released |= {f"starEncoder2.projection_heads.{number}.{name}": value for name, value in head.items()}
    save_file({name: value.clone() for name, value in released.items()}, tmp_path / "model.safetensors")
    loaded = load_encoder(MultiExitEncoder(sizes, TOKENS, [9]), tmp_path / "model.safetensors")
    torch.testing.assert_close(loaded(ids())[9], whole(ids())[9])
    trunk = Trunk(sizes.config(TOKENS), 9)
    load_trunk(trunk, str(tmp_path / "model.safetensors"), "model.trunk")
    torch.testing.assert_close(trunk(ids())[9], whole.trunk(ids())[9] if layers == 9 else loaded.trunk(ids())[9])
    with pytest.raises(UserError, match="has no exit 5"):
        load_encoder(MultiExitEncoder(sizes, TOKENS, [5]), tmp_path / "model.safetensors")
    released.pop("starEncoder2.projection_heads.0.2.weight")
    save_file({name: value.clone() for name, value in released.items()}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="not those of two layers"):
        load_encoder(MultiExitEncoder(sizes, TOKENS, [9]), tmp_path / "model.safetensors")


def test_map_at_r_is_the_mean_precision_where_a_relative_is_found():
    items = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9], [0.6, 0.7]])
    labels = torch.tensor([0, 0, 1, 1, 0])
    metric = SameClassRetrieval()
    metric.update(items, labels)
    # rows 0 and 1 find each other and row 4, rows 2 and 3 each other; row 4 finds 3 and 2, which are wrong
    assert metric.compute().item() == pytest.approx((1 + 1 + 1 + 1 + 0) / 5)
    alone = SameClassRetrieval()
    alone.update(items, torch.tensor([0, 0, 1, 1, 2]))
    scores = (items @ items.T)[:4] - 9 * torch.eye(4, 5)
    same = (torch.tensor([0, 0, 1, 1])[:, None] == torch.tensor([0, 0, 1, 1, 2])[None]) & ~torch.eye(4, 5).bool()
    theirs = RetrievalMAP()(scores.flatten(), same.flatten().long(), indexes=torch.arange(4).repeat_interleave(5))
    torch.testing.assert_close(alone.compute(), theirs)  # one relative each: plain average precision
