"""ProCLIP's losses, adapter and measures: closed forms; golden vectors, whose shapes and numbers are the file's."""

import pytest
import torch
from safetensors import safe_open
from torch.nn import functional as F

from common.losses.contrastive import clip_loss
from projects.proclip.losses import instance_alignment, structure_alignment
from projects.proclip.measures import class_vectors, classified, ranks, recalls
from projects.proclip.model import Adapter, decayed, load_adapter
from tests.golden import golden_file

GOLDEN = golden_file("proclip")
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


@pytest.fixture(scope="module")
def golden():
    """case -> (inputs and outputs by name, hyperparameters)."""
    if not GOLDEN.exists():
        pytest.skip(f"no golden vectors at {GOLDEN}; set GOLDEN_ROOT")
    with safe_open(GOLDEN, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        settings = file.metadata()

    def case(name):
        start = f"{name}/"
        found = {key.removeprefix(start): value for key, value in tensors.items() if key.startswith(start)}
        return found, {k.removeprefix(f"{start}hp."): v for k, v in settings.items() if k.startswith(start)}

    return case


def unit(*shape, seed=0):
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def same(found, wanted):
    torch.testing.assert_close(torch.as_tensor(found, dtype=wanted.dtype), wanted, **CLOSE)


def test_golden_stage_1(golden):
    case, _ = golden("stage1_inheritance")
    a, b = (case[f"in.student_{view}"].clone().requires_grad_() for view in "ab")
    instance = instance_alignment(a, case["in.teacher_a"]) + instance_alignment(b, case["in.teacher_b"])
    structure = structure_alignment(a, case["in.teacher_a"])
    (instance + structure).backward()
    for name, value in {"instance": instance, "structure": structure, "total": instance + structure}.items():
        same(value, case[f"out.{name}"])
    for view, student in {"a": a, "b": b}.items():
        same(student.grad, case[f"out.grad_student_{view}"])


def test_golden_stage_2(golden):
    case, settings = golden("stage2_contrastive_selfdistill")
    images, texts = (case[f"in.{name}"].clone().requires_grad_() for name in ("image", "text"))
    contrast = clip_loss(images, texts, case["in.logit_scale"])
    instance = instance_alignment(images, case["in.teacher_image"])
    structure = structure_alignment(images, case["in.teacher_image"])
    total = contrast + float(settings["distill_loss_weight"]) * (instance + structure)
    total.backward()
    found = {"contrastive": contrast, "instance": instance, "structure": structure, "total": total}
    for name, value in found.items():
        same(value, case[f"out.{name}"])
    same(images.grad, case["out.grad_image"])
    same(texts.grad, case["out.grad_text"])
    own = torch.arange(len(images))
    to_texts, to_images = ranks(images.detach(), texts.detach(), own)
    same(recalls(to_texts)["r1"], case["out.acc_i2t"])
    same(recalls(to_images)["r1"], case["out.acc_t2i"])


def test_golden_adapter(golden, tmp_path):
    case, settings = golden("llm_adapter")
    state = {key.removeprefix("state."): value for key, value in case.items() if key.startswith("state.")}
    torch.save({f"text.{key}": value for key, value in state.items()}, tmp_path / "released.pt")
    adapter = load_adapter(tmp_path / "released.pt")
    sizes = {name: int(settings[name]) for name in ("embedding_dim", "output_dim", "expansion_factor", "num_blocks")}
    wanted = Adapter(*sizes.values())
    assert {k: v.shape for k, v in wanted.state_dict().items()} == {k: v.shape for k, v in adapter.state_dict().items()}
    given = case["in.llm_embedding"]
    same(adapter.text_adaptor(F.normalize(given, dim=-1)), case["out.with_input_l2"])
    same(adapter.text_adaptor(given), case["out.without_input_l2"])
    same(adapter(given), case["out.normalized"])


def test_golden_retrieval(golden):
    case, _ = golden("paired_retrieval")
    own = torch.arange(len(case["in.image"]))
    ways = dict(zip(("image_to_text", "text_to_image"), ranks(case["in.image"], case["in.text"], own), strict=True))
    for way, found in ways.items():
        figures = recalls(found)
        for name, key in {"r1": "R_at_1", "r5": "R_at_5", "r10": "R_at_10", "mean_rank": "mean_rank"}.items():
            same(figures[name], case[f"out.{way}_{key}"])
        same(figures["median_rank"], case[f"out.{way}_median_rank"])


def test_a_perfect_student_loses_nothing_and_terms_are_sums():
    z, t = unit(7, 12), unit(7, 12, seed=1)
    assert instance_alignment(t, t) == 0 and structure_alignment(t, t) == 0
    torch.testing.assert_close(instance_alignment(z, t), 2 * (1 - (z * t).sum(-1)).sum())
    pairs = [(i, j) for i in range(7) for j in range(i + 1, 7)]
    by_hand = sum(F.smooth_l1_loss((z[i] - z[j]).norm(), (t[i] - t[j]).norm()).item() for i, j in pairs)
    assert structure_alignment(z, t).item() == pytest.approx(by_hand, rel=1e-5)


def test_structure_sees_no_rotation_and_coinciding_rows_have_finite_gradients():
    z, t = unit(7, 12), unit(7, 12, seed=1)
    turned = z @ torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(2)))[0]
    torch.testing.assert_close(structure_alignment(turned, t), structure_alignment(z, t), rtol=1e-4, atol=1e-4)
    assert not torch.isclose(instance_alignment(turned, t), instance_alignment(z, t))
    double = z[[0, 0, 1]].clone().requires_grad_()
    structure_alignment(double, t[:3]).backward()
    assert torch.isfinite(double.grad).all() and double.grad.abs().sum() > 0


def test_the_teachers_side_has_no_gradient():
    z, t = unit(5, 8).requires_grad_(), unit(5, 8, seed=1).requires_grad_()
    (instance_alignment(z, t) + structure_alignment(z, t)).backward()
    assert t.grad is None and z.grad is not None


def test_an_adapters_size_and_what_it_does_not_see():
    with torch.device("meta"):
        assert sum(p.numel() for p in Adapter(4096, 768).parameters()) == 271_635_200
    adapter, h = Adapter(20, 12), torch.randn(4, 20)
    torch.testing.assert_close(adapter(3 * h), adapter(h))
    torch.testing.assert_close(adapter(h).norm(dim=-1), torch.ones(4))
    groups = decayed(adapter, 0.2)
    for some in (groups, decayed(adapter, 0.0)):  # every parameter once
        assert sorted(map(id, (p for g in some for p in g["params"]))) == sorted(map(id, adapter.parameters()))
    assert all((p.dim() > 1) == (group["weight_decay"] > 0) for group in groups for p in group["params"])


def test_measures_of_perfect_constant_random_and_shifted_answers():
    images, owners = unit(20, 16), torch.arange(20).repeat_interleave(2)
    texts = F.normalize(images[owners] + 0.05 * unit(40, 16, seed=7), dim=-1)
    perfect, constant = ranks(images, texts, owners), ranks(torch.ones(20, 16), torch.ones(40, 16), owners)
    assert all(recalls(found)["r1"] == 1 for found in perfect)
    assert all(recalls(found)["r1"] == 0 for found in constant)  # ties help nobody
    broken = ranks(images * torch.nan, texts, owners), ranks(images, texts * torch.nan, owners)
    assert all(recalls(found)["r10"] == 0 for ways in broken for found in ways)  # nor do networks that diverged
    guessed = [recalls(found)["r1"] for found in ranks(unit(20, 16, seed=3), texts, owners)]
    assert max(guessed) < 0.3
    longer = ranks(5 * images, texts, owners)  # lengths of images do not matter
    assert torch.equal(longer[0], perfect[0]) and torch.equal(longer[1], perfect[1])
    vectors, labels = unit(6, 16), torch.arange(6).repeat(5)
    assert classified(vectors[labels], vectors, labels).all()
    assert not classified(vectors[labels], vectors, (labels + 1) % 6).any()
    assert not classified(torch.ones(30, 16), torch.ones(6, 16), labels).any()
    assert not classified(vectors[labels] * torch.nan, vectors, labels).any()
    prompts = torch.stack([unit(3, 16), unit(3, 16, seed=5)], 1).flatten(0, 1)
    torch.testing.assert_close(class_vectors(prompts, 3)[1], F.normalize(prompts[2] + prompts[3], dim=0))
