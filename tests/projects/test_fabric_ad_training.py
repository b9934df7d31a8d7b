"""Training and measuring: what is kept, which way batch norms go, resuming; figures of students known beforehand."""

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_model
from torch import nn

from common.errors import UserError
from projects.fabric_ad.data import FabricData
from projects.fabric_ad.distill import Distillation
from projects.fabric_ad.evaluate import Evaluation
from projects.fabric_ad.model import ReverseStudent
from projects.fabric_ad.sources import MVTec
from projects.fabric_ad.teacher import Teacher, imagenet_resnet, small_resnet
from projects.fabric_ad.weave import Loom, Orders

TINY = (8, 8, 8, 8)


def teacher():
    torch.manual_seed(0)
    return small_resnet(TINY, 8, 4)


@pytest.fixture(scope="module")
def cloth(tmp_path_factory):
    """Two fabrics, drawn as the stage draws them."""
    folder = tmp_path_factory.mktemp("cloth")
    loom = Loom()
    loom.run_dir = folder
    loom._trainer = type("T", (), {"datamodule": Orders(train=10, good=4, faulty=1, side=64)})()
    for name in ("twill", "plain"):
        loom.predict_step(name, 0)
    return MVTec(str(folder / "cloth"))


def test_a_drawn_fabric_lies_in_mvtecs_layout(cloth):
    folder = cloth.root / "twill"
    assert len(list((folder / "train/good").iterdir())) == 10 and len(list((folder / "test").iterdir())) == 7
    mask = np.asarray(Image.open(folder / "ground_truth/hole/000_mask.png"))
    assert mask.shape == (64, 64) and set(np.unique(mask)) == {0, 255}
    found = [cloth.read(sample) for sample in cloth.samples("twill", "test")]
    assert sum(c.defective for c in found) == 6 and all(c.mask.any() == c.defective for c in found)


def trainer(folder, **settings):
    return L.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False, barebones=False,
        enable_model_summary=False, num_sanity_val_steps=0, default_root_dir=folder, **settings,
    )  # fmt: skip


def test_what_is_kept_is_the_student_of_the_least_held_out_loss(cloth, tmp_path):
    torch.manual_seed(1)
    module = Distillation(teacher(), ReverseStudent(TINY), lr=1e-3)
    seen = {}
    module.validation_step = lambda batch, batch_idx: module.held_out.update(seen["losses"][module.current_epoch])  # type: ignore[method-assign]
    seen["losses"] = torch.tensor([3.0, 1.0, 2.0])
    states = []
    ended = module.on_validation_epoch_end

    def note():
        ended()
        states.append({name: value.clone() for name, value in module.student.state_dict().items()})

    module.on_validation_epoch_end = note  # type: ignore[method-assign]
    before = {name: value.clone() for name, value in module.teacher.state_dict().items()}
    trainer(tmp_path, max_epochs=3).fit(module, FabricData(cloth, ["twill"], 64, 4))
    assert module.least == 1 and module.stalled == 1
    kept = module.exported().state_dict()
    assert all(torch.equal(kept[name], states[1][name]) for name in kept)
    assert any(not torch.equal(states[1][name], states[2][name]) for name in kept)
    assert all(torch.equal(before[name], value) for name, value in module.teacher.state_dict().items())


@pytest.mark.parametrize("frozen", [False, True])
def test_batch_norms_go_on_or_stay_after_the_first_epoch(cloth, tmp_path, frozen):
    module, counts = Distillation(teacher(), ReverseStudent(TINY), frozen_norms=frozen), []
    ended = module.on_train_epoch_end
    norm = module.student.bottleneck[0].bn

    def note():
        ended()
        counts.append((int(norm.num_batches_tracked), module.student.training, module.teacher.training))

    module.on_train_epoch_end = note  # type: ignore[method-assign]
    trainer(tmp_path, max_epochs=3, limit_val_batches=1).fit(module, FabricData(cloth, ["twill"], 64, 3))
    steps = [1, 1, 1] if frozen else [1, 2, 3]
    assert counts == [(2 * n, not frozen or k == 0, False) for k, n in enumerate(steps)]


def test_a_stalled_training_ends_by_itself_and_a_checkpoint_knows_the_best(cloth, tmp_path):
    module = Distillation(teacher(), ReverseStudent(TINY), frozen_norms=True)
    module.validation_step = lambda batch, batch_idx: module.held_out.update(1.0)  # type: ignore[method-assign]
    run = trainer(tmp_path, max_epochs=30, limit_train_batches=1, limit_val_batches=1)
    run.fit(module, FabricData(cloth, ["twill"], 64, 3))
    assert run.current_epoch == 11 and module.stalled == 10
    assert run.optimizers[0].param_groups[0]["lr"] == pytest.approx(5e-4)
    checkpoint = {"state_dict": dict(module.state_dict())}
    module.on_save_checkpoint(checkpoint)
    assert not any(name.startswith("teacher.") for name in checkpoint["state_dict"])
    other = Distillation(teacher(), ReverseStudent(TINY))
    other.on_load_checkpoint(checkpoint)
    other.load_state_dict(checkpoint["state_dict"])
    assert (other.least, other.stalled) == (1, 10) and other.best.keys() == module.best.keys()


def test_training_is_blurred_and_all_that_is_learned_is_the_students():
    module = Distillation(teacher(), ReverseStudent(TINY))
    seen = []
    module.teacher.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    sharp = (torch.rand(2, 3, 64, 64) > 0.5).float()
    module.log = lambda *args, **kwargs: None  # type: ignore[method-assign]
    loss = module.training_step({"image": sharp}, 0)
    assert float(loss.detach()) == pytest.approx(
        float(module.losses(sharp).detach().sum()), rel=1e-4
    )  # the official code's sum over the batch
    assert seen[0].std() < 0.8 * sharp.std() and seen[0].mean() == pytest.approx(float(sharp.mean()), abs=0.01)
    module.blur = False
    module.losses(sharp)
    assert torch.equal(seen[-1], sharp)
    optimizer = module.configure_optimizers()["optimizer"]
    assert sum(p.numel() for g in optimizer.param_groups for p in g["params"]) == sum(
        p.numel() for p in module.student.parameters()
    )
    with pytest.raises(UserError, match=r"model\.lr"):
        Distillation(teacher(), ReverseStudent(TINY), lr=0)


class Oracle(nn.Module):
    """Gives the teacher's maps, but where the picture is white."""

    levels = (0, 1, 2, 3)

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, images, maps):
        white = images.amin(1, keepdim=True) > 0.99
        return tuple(m * (1 - 2 * nn.functional.adaptive_max_pool2d(white.float(), m.shape[2:])) for m in maps)


def test_a_student_that_fails_on_faults_alone_has_perfect_figures(tmp_path):
    save_model(Oracle(), str(tmp_path / "oracle.safetensors"))
    for part, spot in {"train/good": 0, "test/good": 0, "test/hole": 8}.items():
        for k in range(4):
            image = np.random.default_rng(k).integers(0, 200, (64, 64, 3), dtype=np.uint8)
            image[20 : 20 + spot, 30 : 30 + spot] = 255
            mask = (image.min(-1) == 255).astype(np.uint8) * 255
            for name, content in ((f"{part}/{k}.png", image), (f"ground_truth/hole/{k}_mask.png", mask)):
                if name.startswith(part) or spot:
                    (tmp_path / "felt" / name).parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(content).save(tmp_path / "felt" / name)
    found = measured(tmp_path, ["felt"], MVTec(str(tmp_path)), student=Oracle(),
                     weights={"all": str(tmp_path / "oracle.safetensors")})  # fmt: skip
    assert found["test/image_auroc"] == 1 and found["test/pixel_auroc"] > 0.95 and found["test/contrast"] > 10
    assert found["test/pro"] > 0.8 and (tmp_path / "pictures/000.png").is_file()


def measured(folder, categories, source, **settings):
    module = Evaluation(teacher(), sigma=1 / 64, **settings)
    module.run_dir = folder
    run = trainer(folder)
    run.test(module, FabricData(source, categories, 64, eval_batch_size=3), verbose=False)
    return {name: float(value) for name, value in run.callback_metrics.items()}


def test_figures_are_means_over_categories_and_a_memory_needs_no_student(cloth, tmp_path):
    figures = [measured(tmp_path, names, cloth, memory=300) for names in (["twill"], ["plain"], ["twill", "plain"])]
    for name in ("test/pixel_auroc", "test/image_auroc", "test/val_pixel_auroc"):
        one, other, both = (found[name] for found in figures)
        assert both == pytest.approx((one + other) / 2) and 0 <= both <= 1
    assert figures[0]["test/pixel_auroc"] > 0.55


def test_weights_go_with_a_student_and_every_category_has_some(cloth, tmp_path):
    with pytest.raises(UserError, match="go together"):
        Evaluation(teacher(), weights={"all": "x"})
    save_model(ReverseStudent(TINY), str(tmp_path / "s.safetensors"))
    with pytest.raises(UserError, match="none for plain"):
        measured(tmp_path, ["twill", "plain"], cloth, student=ReverseStudent(TINY),
                 weights={"twill": str(tmp_path / "s.safetensors")})  # fmt: skip


def test_a_teacher_is_timms_resnet_up_to_its_third_stage():
    torch.manual_seed(0)
    net = imagenet_resnet("resnet18", pretrained=False).eval()
    seen, images = [], torch.rand(1, 3, 64, 64)
    for part in (net.maxpool, net.layer1, net.layer2, net.layer3):
        part.register_forward_hook(lambda _, given, out: seen.append(out))
    wrapped = Teacher(net).frozen()
    net((images - wrapped.mean) / wrapped.std)
    expected, seen[:] = list(seen), []
    assert all(torch.equal(a, b) for a, b in zip(wrapped(images), expected, strict=True))
    with pytest.raises(UserError, match="ResNet of timm"):
        Teacher(nn.Linear(2, 2))
