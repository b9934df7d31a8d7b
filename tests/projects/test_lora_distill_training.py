"""Training and evaluation of LoRA distillation: schedule, what is saved, what the measures say of known answers."""

from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from common.data.images import Pictures
from common.errors import UserError
from common.models.lora import Lora, trained_part
from common.models.text_to_image import load_text_to_image
from projects.lora_distill.distill import GuidanceDistillation
from projects.lora_distill.evaluate import Evaluation, Measures, counted_calls
from projects.lora_distill.model import Pair
from projects.lora_distill.pictures import TeacherPictures
from tests.projects.lora_distill_small import CAPTIONS, WORLD, write_model

LORA = Lora(4, gaussian=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(write_model(tmp_path_factory.mktemp("t2i")))


def batch(count=4):
    samples = [Pictures(WORLD, 8)[k] for k in range(count)]
    return {"image": torch.stack([s["image"] for s in samples]), "caption": [s["caption"] for s in samples]}


def module(folder, **settings):
    found = GuidanceDistillation(folder, **{"lora": LORA, "guidance": 3.0, "warmup_steps": 4, **settings})
    found.log = lambda *args, **kwargs: None
    return found


def steps(found, count):
    optimizer = found.configure_optimizers()["optimizer"]
    for group in optimizer.param_groups:
        group["lr"] = found.lr
    losses = []
    for _ in range(count):
        torch.manual_seed(0)
        loss = found.training_step(batch(), 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("lora", [LORA, None])
def test_training_lowers_the_loss_and_leaves_the_teacher_alone(folder, lora):
    found = module(folder, lora=lora, lr=1e-3 if lora is None else 1e-2)
    before = {name: value.clone() for name, value in load_text_to_image(folder).unet.state_dict().items()}
    losses = steps(found, 12)
    assert losses[-1] < 0.9 * losses[0]
    with found.pair.teacher() as teacher:
        kept = teacher.state_dict()
    assert all(torch.equal(kept.get(name, kept.get(base(name))), value) for name, value in before.items())
    names = set(found.exported().state_dict())
    assert names == (set(before) if lora is None else {name for name in names if "lora_" in name}) and names


def base(name):
    """The name of a layer's own weight beside which updates stand."""
    layer, _, leaf = name.rpartition(".")
    return f"{layer}.base_layer.{leaf}"


def test_arms_of_a_seed_meet_the_same_noise(folder):
    met = []
    for lora in (LORA, Lora(16), None):
        torch.manual_seed(3)
        met.append(module(folder, lora=lora).noised(batch())[:2])
    assert all(torch.equal(a, b) for other in met[1:] for a, b in zip(met[0], other, strict=True))
    torch.manual_seed(4)
    assert not torch.equal(module(folder).noised(batch())[0], met[0][0])


def test_the_rate_warms_up_and_stays(folder):
    made = module(folder).configure_optimizers()
    schedule = made["lr_scheduler"]["scheduler"].lr_lambdas[0]
    assert [schedule(k) for k in (0, 1, 3, 4, 1000)] == [0.25, 0.5, 1.0, 1.0, 1.0]
    assert module(folder, warmup_steps=0).configure_optimizers()["lr_scheduler"]["scheduler"].lr_lambdas[0](0) == 1
    assert made["optimizer"].param_groups[0]["weight_decay"] == 1e-2
    trained = {id(p) for group in made["optimizer"].param_groups for p in group["params"]}
    assert len(trained) == len(list(trained_part(Pair(load_text_to_image(folder).unet, LORA)).parameters()))


def test_guidance_is_constant_or_grows_from_one(folder):
    constant, linear = module(folder), module(folder, schedule="linear")
    trainer = {"max_epochs": -1, "max_steps": 10, "limit_train_batches": 1.0, "strategy": None}
    for found in (constant, linear):
        found._trainer = SimpleNamespace(global_step=0, **trainer)
    assert constant.scale() == 3.0 and linear.scale() == pytest.approx(1.2)
    linear._trainer.global_step = 9
    assert linear.scale() == pytest.approx(3.0)
    linear._trainer.global_step = 20
    assert linear.scale() == pytest.approx(3.0)


def test_validation_says_how_much_of_the_gap_is_closed(folder, monkeypatch):
    found, logged = module(folder, lr=1e-2), {}
    found.log = lambda name, value, **_: logged.update({name: value.item()})
    monkeypatch.setattr(found, "all_gather", lambda value: value)

    def closed():
        found.on_validation_epoch_start()
        with torch.no_grad():
            found.validation_step(batch(), 0)
        found.on_validation_epoch_end()
        return logged["val/closed"]

    assert closed() == pytest.approx(0, abs=1e-6)  # the student is the unguided teacher
    steps(found, 12)
    assert 0 < closed() < 1


def evaluated(folder, run_dir, monkeypatch, **settings):
    """An evaluation's metrics, on two batches of the world's pictures and one of validation."""
    found, logged = Evaluation(folder, Measures(glyphs=True), guidance=3.0, steps=3, **settings), {}
    found.run_dir = run_dir
    found._trainer = SimpleNamespace(global_rank=0, barebones=False, datamodule=SimpleNamespace(image_size=8))
    monkeypatch.setattr(found, "log", lambda name, value, **_: logged.update({name: float(value)}))
    with torch.no_grad():
        for number in range(2):
            found.test_step(batch(8), number)
        found.test_step(batch(8), 0, 1)
        found.on_test_epoch_end()
    return {name.removeprefix("test/"): value for name, value in logged.items()}


def test_teachers_stand_at_the_ends_of_the_scale(folder, tmp_path, monkeypatch):
    guided = evaluated(folder, tmp_path / "a", monkeypatch, drawer="guided")
    unguided = evaluated(folder, tmp_path / "b", monkeypatch, drawer="unguided")
    assert guided["closed"] == guided["closed_val"] == 1 and guided["paired"] == 0
    assert unguided["closed"] == pytest.approx(0, abs=1e-6) and unguided["paired"] > 0
    assert guided["calls"] == 6 and unguided["calls"] == 3
    assert guided["gmacs"] == pytest.approx(2 * unguided["gmacs"]) and unguided["gmacs"] > 0
    assert {"objects", "prompt_val", "fd", "seconds"} <= guided.keys()
    assert len(list((tmp_path / "a/pictures").glob("*.png"))) == 8


def test_a_student_that_learned_nothing_is_the_unguided_teacher(folder, tmp_path, monkeypatch):
    state = trained_part(Pair(load_text_to_image(folder).unet, LORA).student).state_dict()
    save_file({name: value.contiguous() for name, value in state.items()}, tmp_path / "w.safetensors")
    student = evaluated(folder, tmp_path, monkeypatch, weights=str(tmp_path / "w.safetensors"), lora=LORA)
    unguided = evaluated(folder, tmp_path, monkeypatch, drawer="unguided")
    for name in ("closed", "closed_val", "objects", "fd", "paired", "calls", "gmacs"):
        assert student[name] == pytest.approx(unguided[name], abs=1e-5), name
    assert "prompt_val" in unguided and "prompt_val" not in student


def test_seeds_draw_other_noise_and_the_same_seed_the_same(folder, tmp_path, monkeypatch):
    first, again, other = (evaluated(folder, tmp_path, monkeypatch, drawer="unguided", seed=seed) for seed in (0, 0, 1))
    assert first["paired"] == again["paired"] != other["paired"]


def test_a_student_needs_weights(folder):
    with pytest.raises(UserError, match="nothing to judge"):
        Evaluation(folder, Measures(glyphs=True))


def test_calls_are_counted_by_pictures_and_the_hook_goes(folder):
    t2i = load_text_to_image(folder)
    with torch.no_grad(), counted_calls(t2i.unet) as calls:
        t2i.sample(t2i.encode_text(CAPTIONS[:3]), 2, 3.0, "ddim")
    assert calls == [3] * 4 and not t2i.unet._forward_pre_hooks


def test_the_teacher_s_pictures_are_a_data_set(folder, tmp_path):
    from common.data.readers.captioned_parquet import CaptionedParquet

    found = TeacherPictures(folder, guidance=2.0, steps=2)
    found.run_dir = tmp_path
    strategy = SimpleNamespace(barrier=lambda: None)
    sources = SimpleNamespace(sources={"train": None, "val": None})
    found._trainer = SimpleNamespace(datamodule=sources, global_rank=0, strategy=strategy)
    with torch.no_grad():
        for split in (0, 1):
            found.predict_step(batch(4), 0, split)
    found.on_predict_end()
    train, val = (CaptionedParquet(str(tmp_path / split)) for split in ("train", "val"))
    assert [train[k].caption for k in range(4)] == CAPTIONS[:4] and len(val) == 4
    assert not (train[0].image == val[0].image).all() and train[0].image.shape == (8, 8, 3)
