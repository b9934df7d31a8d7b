"""Self-slimming as it trains: who moves at which rate, who is asked, what reaches the answer; its pictures."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from common.data.images import IMAGENET_MEAN, IMAGENET_STD, Picture, PictureSource
from common.data.worlds.motifs import Motifs
from common.errors import UserError
from projects.sit.backbone import Net, build
from projects.sit.data import LabelledPictures, Part, Samples
from projects.sit.evaluate import Evaluation
from projects.sit.model import Slimming
from projects.sit.slim import SelfSlimming

SMALL = {"classes": 10, "image_size": 24, "patch": 4, "dim": 16, "depth": 3, "heads": 2, "stem": "patch"}
LAYOUT = Slimming([1, 2], 0.25)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    file = tmp_path_factory.mktemp("sit") / "teacher.safetensors"
    torch.manual_seed(1)
    auxiliary = {"aux_head.weight": torch.zeros(10, 16)}
    save_file(build(Net(**SMALL)).state_dict() | auxiliary, file)
    return str(file)


def stage(teacher, net=None, **settings):
    torch.manual_seed(2)
    made = SelfSlimming(Net(**(SMALL | (net or {}))), LAYOUT, teacher, **settings)
    made.log = lambda *args, **kwargs: None
    return made.train()


@pytest.fixture
def batch():
    samples = Samples(Motifs("train", 8), 24, 24, "none", "", False)
    drawn = [samples.draw(k, np.random.default_rng(k)) for k in range(8)]
    return {"image": torch.stack([d["image"] for d in drawn]), "label": torch.tensor([d["label"] for d in drawn])}


def test_a_student_begins_as_its_teacher_and_only_it_is_trained(teacher, batch):
    made = stage(teacher)
    made.on_train_epoch_start()
    before = {name: value.clone() for name, value in made.state_dict().items()}
    assert all(
        torch.equal(value, made.teacher.vit.state_dict()[name]) for name, value in made.student.vit.state_dict().items()
    )
    assert not made.teacher.training and made.student.training
    made.training_step(batch, 0).backward()
    assert all(p.grad is None for p in made.teacher.parameters())
    assert all(p.grad is not None for p in made.student.parameters())
    [optimizer], [schedule] = made.configure_optimizers()
    optimizer.step()
    moved = {name.split(".")[0] for name, value in made.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"student", "rtsm"}
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert trained == {id(p) for part in (made.student, made.rtsm) for p in part.parameters()}
    rates = [[group["lr"] for group in optimizer.param_groups]]
    for _ in range(made.epochs):
        schedule.step()
        rates.append([group["lr"] for group in optimizer.param_groups])
    assert rates[0] == pytest.approx([made.lr, made.lr, 5 * made.lr]) and rates[-1] == pytest.approx(3 * [made.min_lr])


def test_what_decays(teacher):
    made = stage(teacher)
    decay, still, reverse = made.parameter_groups()
    names = {id(p): name for name, p in made.named_parameters()}
    assert {"student.tsm.0.scale", "student.vit.head.weight"} <= {names[id(p)] for p in decay["params"]}
    assert {"student.vit.cls_token", "student.vit.pos_embed", "student.vit.norm.bias"} <= {
        names[id(p)] for p in still["params"]
    }
    assert still["weight_decay"] == 0 and reverse["weight_decay"] == decay["weight_decay"] == 0.05
    assert any(p.dim() == 1 for p in reverse["params"]) and all(
        names[id(p)].startswith("rtsm") for p in reverse["params"]
    )


def test_recovered_tokens_reach_the_loss_and_not_the_answer(teacher, batch):
    made = stage(teacher, lambda_logits=0.0)
    before = made.student(batch["image"])
    for parameter in made.rtsm.parameters():
        torch.nn.init.normal_(parameter)
    assert torch.equal(made.student(batch["image"]), before)
    seen = made.student.see(batch["image"])
    torch.nn.functional.cross_entropy(seen.logits, batch["label"]).backward(retain_graph=True)
    assert all(p.grad is None for p in made.rtsm.parameters())
    made.zero_grad()
    sum(module(x).square().mean() for module, x in zip(made.rtsm, seen.tokens, strict=True)).backward()
    assert made.student.vit.head.weight.grad is None and made.student.tsm[0].scale.grad.abs() > 0


def test_arms_ask_only_whom_they_learn_from(teacher, batch, tmp_path):
    assert stage(teacher, lambda_token=0.0).rtsm is None
    alone = stage(teacher, lambda_token=0.0, lambda_logits=0.0)
    assert alone.teacher is None and alone.training_step(batch, 0).requires_grad
    file = tmp_path / "other.safetensors"
    save_file(build(Net("test_resnet", 10)).state_dict(), file)
    taught = stage(
        teacher,
        {"distilled": True},
        lambda_token=0.0,
        lambda_logits=0.0,
        other=Net("test_resnet", 10),
        other_weights=str(file),
    )
    taught.on_train_epoch_start()
    taught.training_step(batch, 0).backward()
    assert taught.student.vit.head_dist.weight.grad.abs().sum() > 0 and not taught.other.training
    for settings in (
        {"net": {"distilled": True}},
        {"other": Net("test_resnet", 10)},
        {"lambda_token": -1},
        {"epochs": 0},
    ):
        with pytest.raises(UserError, match="model"):
            stage(teacher, **settings)


def test_checkpoints_leave_teachers_out_and_come_back(teacher):
    made = stage(teacher)
    checkpoint = {"state_dict": dict(made.state_dict())}
    made.on_save_checkpoint(checkpoint)
    assert {name.split(".")[0] for name in checkpoint["state_dict"]} == {"student", "rtsm"}
    other = stage(teacher)
    other.on_load_checkpoint(checkpoint)
    other.load_state_dict(checkpoint["state_dict"])
    assert {name.split(".")[0] for name in made.exported().state_dict()} == {"vit", "tsm"}


def test_mixed_labels_are_probabilities_and_both_networks_see_the_mixed_pictures(teacher, batch):
    made = stage(teacher, mixup=0.8, cutmix=1.0, smoothing=0.1)
    seen = []
    made.teacher.vit.patch_embed.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    made.student.vit.patch_embed.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    np.random.seed(0)
    assert torch.isfinite(made.training_step({k: v.clone() for k, v in batch.items()}, 0))
    assert torch.equal(*seen) and not torch.equal(seen[0], batch["image"])


@pytest.mark.parametrize("perfect", [True, False])
def test_measures_of_a_perfect_and_of_a_constant_answer(teacher, batch, perfect):
    made = Evaluation(Net(**SMALL), None, teacher)
    answers = torch.nn.functional.one_hot(batch["label"] if perfect else torch.zeros(8, dtype=torch.long), 10).float()
    made.net.forward = lambda images: answers
    made.test_step(batch, 1)
    found = float(made.right.compute())
    assert found == pytest.approx(100 if perfect else 100 * float((batch["label"] == 0).float().mean()))
    assert made.costs["tokens"] == 36


class Noise(PictureSource):
    """Pictures of random pixels."""

    def __len__(self):
        return 12

    def __getitem__(self, index):
        return Picture(
            np.random.default_rng(index).integers(0, 256, (40, 48, 3)).astype(np.uint8), index, "", str(index)
        )


def test_augmentation_follows_from_its_generator_and_leaves_the_global_ones_alone():
    for augmentation, size in (("crops", 32), ("full", 24)):
        samples = Samples(Noise(), size, size, augmentation, "rand-m9-mstd0.5-inc1", False)
        states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
        one, again, other = (samples.draw(3, np.random.default_rng(seed))["image"] for seed in (5, 5, 6))
        assert torch.equal(one, again) and not torch.equal(one, other) and one.shape == (3, size, size)
        assert random.getstate() == states[0] and torch.equal(torch.get_rng_state(), states[2])
        assert np.array_equal(np.random.get_state()[1], states[1])


def test_random_erasing_leaves_noise_as_in_the_official_code():
    class Grey(Noise):
        def __getitem__(self, index):
            return Picture(np.full((40, 48, 3), 128, np.uint8), index, "", str(index))

    samples = Samples(Grey(), 24, 24, "full", "rand-m0-n1", False)
    drawn = [samples.draw(3, np.random.default_rng(seed))["image"] for seed in range(40)]
    assert 2 < sum(len(image.unique()) > 30 for image in drawn) < 20, "about a quarter has a noisy part"


def test_the_strongest_augmentation_is_taken_too():
    samples = Samples(Noise(), 24, 24, "full", "rand-m10-n4-inc1", False)
    drawn = [samples.draw(3, np.random.default_rng(seed))["image"] for seed in range(60)]
    assert torch.isfinite(torch.stack(drawn)).all()


def test_evaluation_takes_the_middle_of_the_scaled_picture_and_normalises_it():
    samples = Samples(Noise(), 32, 40, "none", "", False)
    found = samples.draw(2, np.random.default_rng(0))["image"]
    middle = torch.from_numpy(Noise()[2].image[4:36, 8:40]).permute(2, 0, 1) / 255
    mean, std = torch.tensor(IMAGENET_MEAN)[:, None, None], torch.tensor(IMAGENET_STD)[:, None, None]
    torch.testing.assert_close(found, (middle - mean) / std)
    with pytest.raises(UserError, match="resize"):
        LabelledPictures(image_size=32, resize=24)


def test_a_test_goes_through_the_test_pictures_and_then_those_of_validation():
    data = LabelledPictures(val=Part(Noise(), 8, 4), test=Part(Noise(), 0, 8), image_size=32, batch_size=8)
    test, val = data.test_dataloader()
    assert next(iter(test))["label"].tolist() == list(range(8)) and next(iter(val))["label"].tolist() == [8, 9, 10, 11]


def loader(data, rank=0, done=0, epoch=0):
    """The loader of one of three processes, from a batch of an epoch on."""
    progress = SimpleNamespace(current=SimpleNamespace(ready=done), is_last_batch=False)
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress))
    data.trainer = SimpleNamespace(fit_loop=loop, current_epoch=epoch, global_rank=rank, world_size=3)
    return data.train_dataloader()


@pytest.mark.parametrize("epoch", [0, 1])
def test_repeated_draws_of_a_picture_fall_to_different_processes_each_with_its_own_chance(epoch):
    data = LabelledPictures(Noise(), image_size=32, resize=40, batch_size=2, augmentation="crops", repeats=3)
    parts = [list(loader(data, rank, epoch=epoch)) for rank in range(3)]
    assert [len(part) for part in parts] == [2, 2, 2]
    for one, two, three in zip(*parts, strict=True):
        assert one["label"].tolist() == two["label"].tolist() == three["label"].tolist()
        views = torch.cat([one["image"], two["image"], three["image"]])
        assert len({view.numpy().tobytes() for view in views}) == 6
    assert len({label for batch in parts[0] for label in batch["label"].tolist()}) == 4
    [last] = loader(data, 1, done=1, epoch=epoch)
    assert torch.equal(last["image"], parts[1][1]["image"])
    once = LabelledPictures(Noise(), image_size=32, batch_size=2)
    seen = [label for rank in range(3) for batch in loader(once, rank) for label in batch["label"].tolist()]
    assert sorted(seen) == list(range(12))


def test_a_part_of_a_source_is_successive_pictures_of_it():
    part = Part(Noise(), 4, 3)
    assert [picture.label for picture in part] == [4, 5, 6]
    for start, count in ((-1, 3), (4, 0), (10, 3)):
        with pytest.raises(UserError, match="of 12"):
            Part(Noise(), start, count)
