"""PromptKD's stages: what moves, which pictures are drawn, that no label is looked at, the figures and their floor."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file, save_model
from torch.nn import functional as F

from common.data.worlds.tiles import TileScenes
from common.errors import UserError
from common.evaluators.zero_shot import ZeroShot, harmonic_mean
from projects.promptkd.data import Chosen, DomainData, random_crop
from projects.promptkd.distill import PromptDistillation
from projects.promptkd.evaluate import Evaluation
from projects.promptkd.harness import pictures
from projects.promptkd.losses import epoch_weights
from projects.promptkd.teach import TEMPLATES as OFFICIAL
from projects.promptkd.teach import PromptTuning
from tests.projects.promptkd_small import KINDS, SENTENCE, TEMPLATES, scenes, write_clips


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return write_clips(tmp_path_factory.mktemp("clips"))


@pytest.fixture
def batch():
    torch.manual_seed(1)
    return {"image": torch.rand(6, 3, 16, 16), "label": torch.arange(6) % 3}


def silent(module):
    module.log = module.log_dict = lambda *args, **kwargs: None
    return module


def tuning(clips, **settings):
    torch.manual_seed(0)
    return silent(PromptTuning(clips[0], KINDS[:3], SENTENCE, depth=2, templates=TEMPLATES, **settings))


def distillation(clips, **settings):
    torch.manual_seed(0)
    return silent(PromptDistillation(clips[1], clips[0], KINDS, TEMPLATES, depth=2, **settings))


def test_learning_from_labels_moves_prompts_alone(clips, batch):
    stage = tuning(clips)
    stage.training_step(batch, 0).backward()
    moved = {name for name, value in stage.model.named_parameters() if value.grad is not None}
    assert moved == {"prompts.visual", "prompts.context", "prompts.text"}
    assert all(value.grad is None for value in stage.average.parameters())
    assert len(OFFICIAL) == 60 and OFFICIAL[0] == "a bad photo of a {}."


def test_without_consistency_labels_alone_count(clips, batch):
    stage = tuning(clips, consistency=False)
    logits = stage.model.clip.scale * stage.model.images(batch["image"]) @ stage.model.class_vectors(KINDS[:3]).T
    torch.testing.assert_close(stage.training_step(batch, 0), F.cross_entropy(logits, batch["label"]))
    assert stage.exported() is stage.model.prompts


@pytest.mark.parametrize("mean, std", [(2, 1), (3, 0.05)])  # of the second the first epoch's weight is exactly 0
def test_kept_are_the_prompts_averaged_over_epochs(clips, batch, mean, std):
    stage, values = tuning(clips, average_mean=mean, average_std=std), [1.0, 5.0, 2.0]
    for epoch, value in enumerate(values):
        stage._trainer = SimpleNamespace(max_epochs=3, current_epoch=epoch)
        for _ in range(2):  # steps, of which the first counts the epoch before
            stage.training_step(batch, 0)
        for parameter in stage.model.prompts.parameters():
            parameter.data.fill_(value)
        again = tuning(clips, average_mean=mean, average_std=std)  # goes on from a checkpoint at the end of the epoch
        again.load_state_dict(stage.state_dict())
        stage = again
    stage._trainer = SimpleNamespace(max_epochs=3, current_epoch=2)
    expected = float((epoch_weights(3, mean, std) * torch.tensor(values)).sum())
    assert stage.exported().context.mean().item() == pytest.approx(expected)
    assert all(value.is_leaf and not value.requires_grad for value in stage.exported().parameters())


def test_plain_vectors_are_means_before_normalising(clips):
    stage = tuning(clips)
    clip = stage.model.clip
    with torch.no_grad():
        each = [clip.net.encode_text(clip.tokens([t.replace("{}", KINDS[0])]))[0] for t in TEMPLATES]
    torch.testing.assert_close(stage.plain_vectors[0], F.normalize(torch.stack(each).mean(0), dim=0))


def test_a_distillation_looks_at_no_label(clips, batch):
    stage = distillation(clips)
    del batch["label"]
    loss = stage.training_step(batch, 0)
    loss.backward()
    assert loss > 0 and all(value.grad is None for value in stage.teacher.parameters())
    assert stage.student.prompts.grad.abs().sum() > 0


@pytest.mark.parametrize("imitated", ["logits", "l1", "mse"])
def test_a_student_learns_what_its_teacher_says(clips, batch, imitated):
    stage = distillation(clips, imitated=imitated)
    optimiser = torch.optim.Adam([value for value in stage.student.parameters() if value.requires_grad], 1e-2)
    losses = []
    for _ in range(40):
        optimiser.zero_grad()
        losses.append(stage.training_step(batch, 0))
        losses[-1].backward()
        optimiser.step()
    assert losses[-1] < 0.5 * losses[0]


def test_on_its_own_text_a_student_keeps_its_space(clips):
    stage = distillation(clips, own_text=True)
    assert stage.student.vectors.shape == (5, 8) and stage.vectors.shape == (5, 16)
    torch.testing.assert_close(stage.student.vectors, stage.student.clip.class_vectors(KINDS, TEMPLATES))


def test_a_checkpoint_leaves_the_teacher_out_and_finds_it_again(clips):
    stage = distillation(clips)
    checkpoint = {"state_dict": stage.state_dict()}
    stage.on_save_checkpoint(checkpoint)
    assert not any(key.startswith("teacher.") for key in checkpoint["state_dict"])
    stage.on_load_checkpoint(checkpoint)
    stage.load_state_dict(checkpoint["state_dict"])


def test_shots_are_of_base_classes_and_drawn_by_the_seed():
    source = scenes(size=120)
    first, again, other = (Chosen(source, 4, 3, seed) for seed in (0, 0, 1))
    labels = [first[k].label for k in range(len(first))]
    assert sorted(labels) == [0] * 4 + [1] * 4 + [2] * 4
    assert first.order.tolist() == again.order.tolist() != other.order.tolist()
    assert len(Chosen(source, None, 5, 0)) == 120 and len(Chosen(source, 1000, 5, 0)) == 120


def test_pictures_without_labels_are_drawn_by_no_class():
    source = scenes()
    source.labels = [-1] * len(source)
    assert len(Chosen(source, None, 5, 0)) == len(source)
    with pytest.raises(UserError, match="without labels cannot be drawn by class"):
        Chosen(source, 4, 5, 0)


def test_a_domain_knows_its_classes_and_sentences():
    data = DomainData(scenes(), base=True, per_class=2, templates=TEMPLATES)
    assert data.known == KINDS[:3] and data.classes == KINDS and data.templates == TEMPLATES
    assert len(data.sources["train"]) == 6
    with pytest.raises(UserError, match="whose classes have names"):
        DomainData()
    with pytest.raises(UserError, match="data.test has other classes than data.train"):
        DomainData(scenes(), test=TileScenes("test", 4, kinds=KINDS[:4], objects=(1, 1)))


def test_crops_have_their_size_and_parts_of_the_picture():
    rng, image = np.random.default_rng(0), np.random.default_rng(1).integers(0, 256, (30, 50, 3), dtype=np.uint8)
    shown = [random_crop(image, 12, rng) for _ in range(20)]
    assert {crop.shape for crop in shown} == {(12, 12, 3)} and len({crop.tobytes() for crop in shown}) == 20
    thin = np.zeros((1, 200, 3), np.uint8)  # no crop of usual proportions fits
    assert random_crop(thin, 12, rng).shape == (12, 12, 3)


def test_the_measures_have_a_floor_and_a_ceiling():
    torch.manual_seed(0)
    vectors, labels = torch.eye(20), torch.arange(2000) % 20
    for features, expected in ((vectors[labels], 1), (torch.ones(2000, 20), 0.1), (torch.randn(2000, 20), 0.1)):
        base, novel = ZeroShot(vectors, range(10)), ZeroShot(vectors, range(10, 20))
        for measure in (base, novel):
            measure.update(features, labels)
        found = harmonic_mean(float(base.compute()), float(novel.compute()))
        assert found == pytest.approx(expected, abs=0.03)
    assert harmonic_mean(86.96, 80.73) == pytest.approx(83.73, abs=0.005)  # the paper's
    dim = ZeroShot(vectors)
    dim.update(0.01 * vectors[labels], labels)  # the length of a feature says nothing
    assert dim.compute() == 1


@pytest.mark.parametrize("kind", ["plain", "prompted", "student"])
def test_an_evaluation_reads_what_a_stage_left(clips, tmp_path, batch, kind):
    settings = {}
    if kind == "prompted":
        save_model(tuning(clips).model.prompts, str(tmp_path / "p.safetensors"))
        settings = {"prompts": str(tmp_path / "p.safetensors")}
    if kind == "student":
        save_model(distillation(clips).exported(), str(tmp_path / "s.safetensors"))
        settings = {"student": str(tmp_path / "s.safetensors")}
    clip = clips[1] if kind == "student" else clips[0]
    stage, logged = silent(Evaluation(clip, KINDS, TEMPLATES, sentence=SENTENCE, **settings)), {}
    stage.run_dir, stage.log_dict = tmp_path, logged.update
    stage.log = lambda name, value: logged.update({name: value})
    stage.test_step(batch | {"label": torch.arange(6) % 5}, 0)
    stage.on_test_epoch_end()
    assert {"test/base", "test/novel", "test/hm", "test/accuracy"} < set(logged) and "test/hm_val" not in logged
    assert (
        logged["test/trained"]
        == {"plain": 0, "prompted": 2 * 4 * 32 + 4 * 16 + 4 * 16, "student": 128 + 144 + 32 + 272}[kind]
    )
    assert (tmp_path / "pictures/index.json").is_file()
    assert not any(value.requires_grad for value in stage.parameters())


def test_a_file_of_another_stage_is_refused(clips, tmp_path):
    save_file({"x": torch.zeros(2)}, tmp_path / "x.safetensors")
    for name in ("prompts", "student"):
        with pytest.raises(UserError, match="give what the stage of"):
            Evaluation(clips[0], KINDS, TEMPLATES, **{name: str(tmp_path / "x.safetensors")})
    assert load_file(tmp_path / "x.safetensors")


def test_a_picture_of_answers_shows_what_is_wrong_in_red():
    images, scores = torch.zeros(2, 3, 16, 16), torch.tensor([[0.9, 0.1], [0.9, 0.1]])
    right, wrong = (pictures.of_answers(images[:1], torch.tensor([k]), scores[:1], ["a", "b"]) for k in (0, 1))
    red = [(sheet[..., 0].astype(int) - sheet[..., 1] > 100).sum() for sheet in (right, wrong)]
    assert red[0] == 0 and red[1] > 0
