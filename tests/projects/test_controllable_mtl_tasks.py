"""Losses and figures of tasks in known cases; the data sets' layouts; overlapped digits."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from common.data.scene import UnreadableSample
from common.errors import UserError
from projects.controllable_mtl.data import DIGITS, OverlappedDigits, Samples, TaskData
from projects.controllable_mtl.harness.rehearsal import SHAPE, make
from projects.controllable_mtl.recipe import SUPERCLASSES
from projects.controllable_mtl.scenes import PARTS, Cifar100, Cityscapes, Nyud, PascalContext
from projects.controllable_mtl.tasks import IGNORED, Task, balanced, invariance


def figure(task, *pairs):
    return task.figure(sum(task.statistics(out, target) for out, target in pairs))


def test_classes_and_segments_count_what_is_labelled():
    task = Task("digit", "class", 3, 1 / 3)
    logits, target = torch.eye(3) * 9, torch.tensor([0, 1, IGNORED])
    assert figure(task, (logits, target)) == 1 and task.score(1) == 1 and task.score(1 / 3) == 0
    assert figure(task, (logits, target), (logits, torch.tensor([1, 1, 1]))) == pytest.approx(3 / 5)
    assert task.loss(logits, target) == pytest.approx(float(F.cross_entropy(logits[:2], target[:2])))
    assert task.loss(logits, torch.full((3,), IGNORED)) == 0
    assert math.isnan(figure(task, (logits, torch.full((3,), IGNORED))))

    task = Task("parts", "segments", 3, 0.2)
    target = torch.tensor([[[0, 0, 1, IGNORED]]])
    perfect = F.one_hot(target.clamp(max=2), 3).permute(0, 3, 1, 2).float() * 9
    assert figure(task, (perfect, target)) == 1
    constant = torch.zeros(1, 3, 1, 4)
    constant[:, 0] = 1
    assert figure(task, (constant, target)) == pytest.approx((2 / 3 + 0) / 2)  # class 2 is nowhere: it does not count


def test_fields_count_where_they_are_known():
    depth = Task("depth", "depth", 1, 2.0)
    target = torch.tensor([[[[1.0, 3.0, 0.0]]]])
    out = torch.tensor([[[[2.0, 3.0, 99.0]]]])
    assert figure(depth, (out, target)) == pytest.approx(math.sqrt(0.5)) and depth.loss(out, target) == 0.5
    assert depth.score(0.0) == 1 and depth.score(2.0) == 0
    normals = Task("normals", "normals", 3, 45.0)
    target = torch.tensor([[0.0, 0, 1], [0, 0, 1], [0, 0, 0]]).T[None, :, None]
    out = torch.tensor([[0.0, 0, 5], [2, 0, 0], [1, 1, 1]]).T[None, :, None]
    assert figure(normals, (out, target)) == pytest.approx(45)
    assert normals.loss(out, target) == pytest.approx(2 / 6)
    edges = Task("edges", "edges", 1, 0.066)
    target = torch.tensor([[[[1.0] + [0.0] * 19 + [IGNORED]]]])
    assert edges.loss(torch.zeros(1, 1, 1, 21), target) == pytest.approx(2 * 0.0475 * math.log(2), rel=1e-5)
    right = torch.where(target == 1, 20.0, -20.0)
    assert figure(edges, (right, target)) < 1e-6 < edges.floor
    assert balanced(right, target, torch.zeros_like(target)) == 0


@pytest.mark.parametrize(
    "values", [("x", "depth", 2, 1.0), ("x", "class", 0, 0.1), ("x", "class", 5, 1.0), ("x", "depth", 1, 0.0)]
)
def test_tasks_that_are_none_are_refused(values):
    with pytest.raises(UserError, match="task x"):
        Task(*values)


def test_the_distillation_is_a_distance_of_directions():
    features = torch.randn(2, 5, 3, 3)
    assert invariance(features, features) == pytest.approx(0, abs=1e-6)
    assert invariance(3 * features, features) == pytest.approx(0, abs=1e-6)
    assert invariance(-features, features) == pytest.approx(4)


def test_no_digit_is_in_two_splits_and_both_digits_can_be_seen():
    members = [set(np.random.default_rng(0).permutation(1797)[part]) for part in DIGITS.values()]
    assert sum(map(len, members)) == len(set().union(*members)) == 1797
    source = OverlappedDigits("val", 300)
    assert np.array_equal(source[7]["image"], OverlappedDigits("val", 300)[7]["image"])
    assert all(set(np.unique(source.labels[:, k])) == set(range(10)) for k in (0, 1))
    images = np.stack([source[k]["image"] for k in range(300)])
    assert images.shape == (300, 12, 12, 3) and images.max() == 255
    seen = {tuple(image.ravel()) for image in images}
    train = OverlappedDigits("train", 2000)
    others = {tuple(train[k]["image"].ravel()) for k in range(2000)}
    assert len(seen) == 300 and not seen & others
    with pytest.raises(UserError, match="at least one pair"):
        OverlappedDigits("val", 0)


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stand_ins")
    make(folder)
    return folder / "data"


def test_layouts_of_the_papers_data_sets_are_read(stand_ins):
    nyud = Nyud(str(stand_ins / "NYUD_MT"), "train")
    assert len(nyud) == 6 and set(nyud[0]) == {"image", "segments", "depth", "normals", "edges"}
    labels = nyud[0]["segments"]
    assert set(np.unique(labels)) <= {*range(40), IGNORED} and nyud[0]["depth"].dtype == np.float32

    pascal = PascalContext(str(stand_ins / "PASCAL_MT"), "val")
    sample = pascal[1]
    assert sample["parts"][0, 0] == PARTS["llleg"] == 6 and sample["parts"][9, 9] == PARTS["head"] == 1
    assert set(np.unique(sample["saliency"])) == {0, 1} and abs(sample["normals"]).max() <= 1
    assert sample["edges"].shape == SHAPE and 0 < sample["edges"].mean() <= 1

    cities = Cityscapes(str(stand_ins / "cityscapes"), "train")
    assert set(np.unique(cities[0]["segments"])) <= {*range(19), IGNORED}
    assert cities[0]["depth"].min() >= 0 and cities[0]["depth"].max() <= 1

    cifar = Cifar100(str(stand_ins / "cifar100/cifar100/train-*.parquet"))
    sample = cifar[47]
    assert cifar.names == SUPERCLASSES and sample[SUPERCLASSES[7]] == 2
    assert sum(int(sample[name]) != IGNORED for name in SUPERCLASSES) == 1


def test_samples_are_scaled_and_mirrored_with_their_labels(stand_ins):
    source = Nyud(str(stand_ins / "NYUD_MT"), "train")
    plain = Samples(source, SHAPE)[0]
    rng = np.random.default_rng()
    mirrored = next(
        x
        for x in (Samples(source, SHAPE, True).draw(0, rng) for _ in range(99))
        if not torch.equal(x["depth"], plain["depth"])
    )
    for name in ("image", "segments", "depth", "edges"):
        assert torch.equal(mirrored[name].flip(-1), plain[name])
    assert torch.equal(mirrored["normals"].flip(-1) * torch.tensor([-1.0, 1, 1])[:, None, None], plain["normals"])
    small = Samples(source, (16, 24))[0]
    assert (
        small["image"].shape == (3, 16, 24)
        and small["segments"].shape == (16, 24)
        and small["depth"].shape == (1, 16, 24)
    )
    assert set(small["segments"].unique().tolist()) <= set(plain["segments"].unique().tolist())


def test_what_is_held_out_is_not_trained_on(stand_ins):
    data = TaskData(OverlappedDigits("train", 50), held_out=10)
    assert len(data.parts["train"]) == 40 and len(data.parts["val"]) == 10
    assert not set(data.parts["train"].indices) & set(data.parts["val"].indices)
    assert len(data.ordered("train", 7).dataset) == 7
    with pytest.raises(UserError, match="held_out"):
        TaskData(OverlappedDigits("train", 50), held_out=50)
    with pytest.raises(UserError, match=r"data\.test"):
        data.ordered("test")


@pytest.mark.parametrize(
    ("make_source", "said"),
    [
        (lambda root: Nyud(root, "train"), "gt_sets"),
        (lambda root: PascalContext(root, "train"), "ImageSets"),
        (lambda root: Cityscapes(root, "train"), "leftImg8bit"),
        (lambda root: Cifar100(f"{root}/*.parquet"), "no parquet files"),
    ],
)
def test_a_missing_data_set_says_what_is_expected(tmp_path, make_source, said):
    with pytest.raises(UserError, match=said):
        make_source(str(tmp_path))


def test_damaged_files_are_unreadable_samples(tmp_path):
    make(tmp_path)
    nyud, pascal = tmp_path / "data/NYUD_MT", tmp_path / "data/PASCAL_MT"
    (nyud / "depth/0_0.npy").write_bytes(b"<html>")
    (nyud / "segmentation/0_1.png").write_bytes(b"")
    (nyud / "normals/0_2.npy").unlink()
    for index in range(3):
        with pytest.raises(UnreadableSample):
            Nyud(str(nyud), "train")[index]
    (pascal / "human_parts/0_0.mat").write_bytes(b"MATLAB")
    with pytest.raises(UnreadableSample):
        PascalContext(str(pascal), "train")[0]
