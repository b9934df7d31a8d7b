"""Trans-Encoder's models and stages with tiny nets: labels, orders, start weights, gradients, what a stage leaves."""

import lightning.pytorch as L
import numpy as np
import pytest
import torch
import transformers
from torch.nn import functional as F

from common.data.pairs import Pair
from common.data.worlds.sentence_pairs import SentencePairs, Stories
from common.errors import UserError
from common.foundations.masked_lm import IGNORED, Pretraining, TextData
from projects.trans_encoder.contrast import SimCSE
from projects.trans_encoder.data import EvaluationData, PairData, agreement
from projects.trans_encoder.distill import Distillation
from projects.trans_encoder.evaluate import Evaluation
from projects.trans_encoder.harness.pictures import cycles_chart, listing, scatter
from projects.trans_encoder.model import BiEncoder, CrossEncoder, load_pair_model, score_pairs
from projects.trans_encoder.pretrain import ComparedTexts, mixed

WORLD = SentencePairs(train=12, val=8, test=10)
PAIRS = WORLD.read("train")


@pytest.fixture(scope="module")
def language(tmp_path_factory):
    """Folders of two tiny language models, as the foundation leaves them."""
    folders = {}
    for kind, size in (("bert", 300), ("roberta", 400)):
        torch.manual_seed(0)
        data = TextData(Stories(60), kind, size, batch_size=16)
        model = Pretraining(kind, data.tokenizer, hidden=16, layers=1, heads=2)
        model.run_dir = tmp_path_factory.mktemp(kind)
        trainer = L.Trainer(**QUIET, max_steps=2, default_root_dir=model.run_dir)
        trainer.fit(model, data)
        folders[kind] = str(model.run_dir / "model")
    return folders


QUIET = {
    "logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False,
    "accelerator": "cpu", "num_sanity_val_steps": 0, "use_distributed_sampler": False,
}  # fmt: skip


def fit(model: L.LightningModule, data: PairData, folder) -> L.LightningModule:
    model.run_dir = folder
    L.Trainer(**QUIET, max_epochs=1, gradient_clip_val=1.0, default_root_dir=folder).fit(model, data)
    return model


def cross(start: str, teachers: dict, **settings) -> Distillation:
    return Distillation("cross", start, teachers, "bi", **{"lr": 1e-3, **settings})


def test_texts_are_hidden_for_both_tasks(language):
    data = TextData(Stories(60), "bert", 300, alone=0.5)
    rng = np.random.default_rng(0)
    samples = [data.draw(k, rng) for k in range(60)]
    follows = [sample["next_sentence_label"] for sample in samples]
    assert {0, 1, IGNORED} == set(follows) and 15 < follows.count(IGNORED) < 45
    batch = data.hide(samples)
    hidden = batch["labels"] >= 0
    real = batch["attention_mask"].bool()
    assert 0.2 < hidden.sum() / real.sum() < 0.4 and not (hidden & ~real).any()
    assert not hidden[:, 0].any()  # [CLS]
    for words, second in zip(samples, follows, strict=True):
        assert sum(words["special_tokens_mask"]) == (2 if second == IGNORED else 3)


def test_the_mini_scale_s_language_models_are_told_how_much_of_a_sentence_recurs(language, tmp_path):
    for kind, size in (("bert", 300), ("roberta", 400)):
        data = ComparedTexts(copies=0.7, texts=Stories(60), kind=kind, vocabulary=size, alone=0.2, batch_size=16)
        rng = np.random.default_rng(0)
        samples = [data.draw(k % 60, rng) for k in range(300)]
        shares = torch.tensor([sample["next_sentence_label"] for sample in samples])
        alone = shares.sum(1) == 0
        assert 0.1 < alone.float().mean() < 0.3 and (shares[~alone].sum(1) == 1).all()
        graded = (shares[:, 0] > 0) & (shares[:, 0] < 1)
        assert 0.3 < graded.float().mean() < 0.7 and {0.0, 1.0} <= set(shares[~alone, 0].tolist())
        before = torch.get_rng_state()
        batch = data.hide(samples[:16])
        assert torch.equal(torch.get_rng_state(), before)  # what is hidden follows from the sample: so runs resume
        assert 0.1 < (batch["labels"] >= 0).sum() / batch["attention_mask"].sum() < 0.4
        assert batch["next_sentence_label"].shape == (16, 2) and batch["next_sentence_label"].is_floating_point()
        model = Pretraining(kind, data.tokenizer, hidden=16, layers=1, heads=2)
        model.run_dir = tmp_path / kind
        L.Trainer(**QUIET, max_steps=2, default_root_dir=model.run_dir).fit(model, data)
        assert CrossEncoder(str(model.run_dir / "model")).score(PAIRS).shape == (len(PAIRS),)


def test_a_mixed_sentence_keeps_the_share_of_words_that_it_is_said_to():
    rng = np.random.default_rng(0)
    one, other = "a b c d e f", "u v w x"
    found = [mixed(one, other, rng) for _ in range(200)]
    for said, kept in found:
        assert len(said.split()) == 6 and set(said.split()) <= {*one.split(), *other.split()}
        assert kept == pytest.approx(len({*said.split()} & {*one.split()}) / 6)
    assert {0.0, 1.0} < {kept for _, kept in found} and len({kept for _, kept in found}) == 7  # every share occurs
    begins = {said.split()[0] for said, kept in found if kept == 1}
    assert len(begins) > 3  # the order of words tells nothing: it may begin anywhere


def test_a_language_model_becomes_either_kind_of_encoder(language):
    for kind, folder in language.items():
        plain = transformers.AutoModel.from_pretrained(folder).state_dict()
        for model in (BiEncoder(folder), CrossEncoder(folder)):
            assert model.training and model.net.training  # dropout is on
            own = {name.removeprefix(f"{kind}."): value for name, value in model.net.state_dict().items()}
            shared = [name for name in own if name.startswith(("embeddings.", "encoder."))]
            assert len(shared) > 15 and all(torch.equal(own[name], plain[name]) for name in shared)
        fresh = CrossEncoder(folder, load=False).net.base_model.embeddings.word_embeddings.weight
        assert not torch.equal(fresh, plain["embeddings.word_embeddings.weight"])


def test_scores(language):
    for folder in language.values():
        bi, cross_encoder = BiEncoder(folder).eval(), CrossEncoder(folder).eval()
        cosines = score_pairs(bi, PAIRS, batch_size=5)
        assert (cosines.abs() <= 1 + 1e-6).all()
        u, v = bi.embed([pair.a for pair in PAIRS]), bi.embed([pair.b for pair in PAIRS])
        torch.testing.assert_close(cosines, F.cosine_similarity(u, v).detach(), atol=1e-5, rtol=1e-5)
        swapped = [pair.swapped for pair in PAIRS]
        torch.testing.assert_close(score_pairs(bi, swapped), cosines, atol=1e-5, rtol=1e-5)  # symmetric, which
        scores = score_pairs(cross_encoder, PAIRS)
        assert not torch.allclose(score_pairs(cross_encoder, swapped), scores, atol=1e-7)  # a cross-encoder is not
        assert ((scores > 0) & (scores < 1)).all()
        torch.testing.assert_close(scores.logit(), cross_encoder(PAIRS).detach(), atol=1e-4, rtol=1e-4)


def test_dropout_can_be_set_and_is_the_model_s_own_otherwise(language):
    def passes_differ(model: torch.nn.Module) -> bool:
        return not torch.equal(model(PAIRS), model(PAIRS))

    for folder in language.values():
        for kind in ("bi", "cross"):
            assert passes_differ(load_pair_model(kind, folder))
            assert not passes_differ(load_pair_model(kind, folder, dropout=0.0))


def test_long_sentences_are_cut(language):
    bi, long = BiEncoder(language["bert"], length=8).eval(), Pair("the dog " * 30, "the dog " * 40)
    assert bi(2 * [long])[0].item() == pytest.approx(1, abs=1e-5)  # what differs lies behind the cut
    CrossEncoder(language["roberta"])([Pair("the dog " * 300, "the dog " * 300)])


def test_labels_are_the_mean_of_the_teachers_and_constants(language):
    bert, roberta = (score_pairs(BiEncoder(folder), PAIRS) for folder in language.values())
    student = cross(language["bert"], {"first": language["bert"], "second": language["roberta"]})
    labels = student.labels_of(PAIRS)
    torch.testing.assert_close(labels, (bert + roberta) / 2)
    assert not labels.requires_grad
    alone = cross(language["bert"], {"own": language["bert"]}).labels_of(PAIRS)
    twice = cross(language["bert"], {"a": language["bert"], "b": language["bert"]}).labels_of(PAIRS)
    torch.testing.assert_close(alone, twice)  # mutual distillation of two equal models is self-distillation
    assert all(parameter.requires_grad for parameter in student.parameters())  # the student's: no teacher is kept


def test_a_cross_encoder_has_the_labels_in_both_orders(language, tmp_path):
    data = PairData(WORLD, WORLD, batch_size=8, both_orders=True)
    model = fit(cross(language["bert"], {"own": language["bert"]}), data, tmp_path)
    assert len(model.labels) == 2 * len(PAIRS)
    assert torch.equal(model.labels[: len(PAIRS)], model.labels[len(PAIRS) :])
    assert model.trainer.global_step == 2 * len(PAIRS) // 8


def test_a_cycle_leaves_models_that_anything_can_load(language, tmp_path):
    first = fit(
        cross(language["roberta"], {"own": language["bert"]}),
        PairData(WORLD, WORLD, batch_size=4, both_orders=True), tmp_path / "cross",
    )  # fmt: skip
    folder = str(tmp_path / "cross/model")
    kept = load_pair_model("cross", folder)
    torch.testing.assert_close(score_pairs(kept, PAIRS), score_pairs(first.student, PAIRS))
    plain = CrossEncoder(language["roberta"])
    assert not torch.allclose(score_pairs(plain, PAIRS), score_pairs(kept, PAIRS))  # it learned something
    back = Distillation("bi", language["bert"], {"own": folder}, "cross", loss="mse", warmup=0.0, lr=1e-3)
    second = fit(back, PairData(WORLD, WORLD, batch_size=4), tmp_path / "bi")
    torch.testing.assert_close(second.labels, score_pairs(kept, PAIRS))
    continued = BiEncoder(folder).net.state_dict()  # the encoder of the cross-encoder, for `continued`
    assert all(torch.equal(continued[name], value) for name, value in kept.net.base_model.state_dict().items())

    evaluation = Evaluation(
        sets=["val", "world"], binary=[False, False], bi={"1": str(tmp_path / "bi/model"), "2": language["bert"]},
        cross={"1": folder}, partner_bi={"1": language["roberta"]}, partner_cross={"1": folder}, start=language["bert"],
        partner_start=language["bert"],
    )  # fmt: skip
    evaluation.run_dir = tmp_path
    trainer = L.Trainer(**QUIET, default_root_dir=tmp_path)
    trainer.test(evaluation, EvaluationData(WORLD, {"world": WORLD}), verbose=False)
    found = {name: value.item() for name, value in trainer.callback_metrics.items()}
    assert found["test/bi_0"] == pytest.approx(found["test/bi_2"]) == pytest.approx(found["test/bi_last"])
    assert found["test/bi"] in (found["test/bi_1"], found["test/bi_2"])
    assert found["test/cross_ensemble"] == pytest.approx(found["test/cross"], abs=1e-3)  # with itself
    assert found["test/bi_0_ensemble"] == pytest.approx(found["test/bi_0"], abs=1e-3)
    assert {"test/bi_ensemble", "test/lexical", "test/cross_1", "test/cross_last", "test/val_cross"} <= set(found)
    test = WORLD.read("test")
    scores = [score_pairs(model, test) for model in (BiEncoder(language["bert"]), kept)]
    assert found["test/cross_1_start"] == pytest.approx(100 * agreement(False)(*scores).item(), abs=1e-3)
    pictures = [file for file in tmp_path.glob("pictures/*.png") if not file.stem.endswith("-dark")]
    assert len(pictures) == 3


def test_gold_scores_are_the_ceiling_s_labels(language):
    model = cross(language["bert"], {})
    torch.testing.assert_close(model.labels_of(PAIRS), torch.tensor([pair.score for pair in PAIRS]))
    with pytest.raises(UserError, match="no teachers, and training pairs without scores"):
        model.labels_of([Pair("a", "b")])


def test_simcse_trains_the_encoder_and_leaves_it_without_its_head(language, tmp_path):
    data = PairData(WORLD, WORLD, batch_size=8, both_orders=True)
    model = fit(SimCSE(language["roberta"], lr=1e-3), data, tmp_path)
    sentences = [pair.a for pair in PAIRS]
    model.train()
    first, second = model.student.embed(sentences), model.student.embed(sentences)
    assert not torch.allclose(first, second)  # two dropout masks
    kept = BiEncoder(str(tmp_path / "model"))
    torch.testing.assert_close(score_pairs(kept, PAIRS), score_pairs(model.student, PAIRS))
    assert not any("head" in name for name in kept.net.state_dict())


def test_a_pooler_survives_the_way_through_a_bi_encoder(language, tmp_path):
    """BERT's cross-encoder scores through it; the bi-encoder in between has no use for it and leaves it as it is."""
    before = CrossEncoder(language["bert"])
    with torch.no_grad():
        before.net.bert.pooler.dense.weight.add_(0.5)
    before.save(tmp_path / "cross")
    data = PairData(WORLD, WORLD, batch_size=4)
    back = Distillation("bi", str(tmp_path / "cross"), {"own": language["bert"]}, "bi", loss="mse", warmup=0.0, lr=1e-3)
    trained = fit(back, data, tmp_path / "bi").student.net
    after = CrossEncoder(str(tmp_path / "bi/model"))
    assert torch.equal(after.net.bert.pooler.dense.weight, before.net.bert.pooler.dense.weight)
    assert not torch.equal(
        after.net.bert.embeddings.word_embeddings.weight, before.net.bert.embeddings.word_embeddings.weight
    )
    moving = {name for name, parameter in trained.named_parameters() if parameter.requires_grad}
    assert moving == {name for name, _ in trained.named_parameters() if not name.startswith("pooler")}
    steps = L.Trainer(**QUIET, max_steps=3)
    steps.datamodule = data
    back.trainer = steps
    optimizer = back.configure_optimizers()["optimizer"]
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(moving)


class Watched(Distillation):
    """Notes the step of every look at the validation pairs, and may be told what to find there."""

    def __init__(self, *args, told=(), **settings):
        super().__init__(*args, **settings)
        self.looks, self.told, self.weights = [], list(told), []

    def judge(self, score: float) -> None:
        self.looks.append(self.trainer.global_step)
        self.weights.append({name: value.clone() for name, value in self.student.net.state_dict().items()})
        super().judge(self.told.pop(0) if self.told else score)


@pytest.mark.parametrize(("interval", "steps"), [(2, [2, 3, 4, 6]), (3, [3, 6]), (200, [3, 6]), (4, [3, 4, 6])])
def test_the_end_of_an_epoch_is_looked_at_too(language, tmp_path, interval, steps):
    model = Watched("bi", language["bert"], {"own": language["bert"]}, "bi", loss="mse")
    model.run_dir = tmp_path
    trainer = L.Trainer(
        **QUIET, max_epochs=2, val_check_interval=interval, check_val_every_n_epoch=None, default_root_dir=tmp_path
    )
    trainer.fit(model, PairData(WORLD, WORLD, batch_size=4))
    assert model.looks == steps and model.best_weights is not None
    assert trainer.callback_metrics["val/score"] <= model.best


@pytest.mark.parametrize(("keep", "look"), [("best", 1), ("last", 2)])
def test_the_best_weights_are_handed_on(language, tmp_path, keep, look):
    for kind, model in (
        (
            "distilled",
            Watched("bi", language["bert"], {"own": language["roberta"]}, "bi", loss="mse", lr=1e-3, keep=keep),
        ),
        ("contrastive", SimCSE(language["bert"], lr=1e-3, keep=keep)),
    ):
        weights, told = [], [0.1, 0.9, 0.5]
        judge = type(model).judge

        def watched(score, model=model, weights=weights, told=told, judge=judge):
            weights.append({name: value.clone() for name, value in model.student.net.state_dict().items()})
            judge(model, told.pop(0))

        model.judge, model.run_dir = watched, tmp_path / kind
        trainer = L.Trainer(
            **QUIET, max_epochs=1, val_check_interval=1, check_val_every_n_epoch=None, default_root_dir=tmp_path
        )
        trainer.fit(model, PairData(WORLD, WORLD, batch_size=4))
        left = BiEncoder(str(tmp_path / kind / "model")).net.state_dict()
        assert len(weights) == 3
        for number, found in enumerate(weights):
            assert all(torch.equal(left[name], found[name]) for name in found) == (number == look)


def test_without_scored_pairs_the_last_weights_count(language, tmp_path):
    unscored = [Pair(pair.a, pair.b) for pair in PAIRS]
    data = PairData(WORLD, None, batch_size=4)
    data.pairs = unscored
    model = fit(Distillation("bi", language["bert"], {"own": language["roberta"]}, "bi", loss="mse"), data, tmp_path)
    assert model.best_weights is None and (tmp_path / "model/model.safetensors").exists()


def test_squared_errors_are_those_of_the_logit(language):
    model = cross(language["bert"], {"own": language["bert"]}, loss="mse", dropout=0.0)
    model.labels, model.log_dict = torch.rand(len(PAIRS)), lambda *_, **__: None
    loss = model.training_step((PAIRS, torch.arange(len(PAIRS))), 0)
    torch.testing.assert_close(loss, (model.student(PAIRS) - model.labels).square().mean())


def test_pairs_can_be_the_positives_of_contrastive_training(language):
    losses = {}
    for positives in ("dropout", "pairs"):
        torch.manual_seed(0)
        model = SimCSE(language["bert"], positives=positives)
        model.student.eval()
        model.log = lambda *_, **__: None
        losses[positives] = model.training_step((PAIRS, torch.arange(len(PAIRS))), 0).item()
        same = [Pair(pair.a, pair.a) for pair in PAIRS]
        losses[f"{positives}, equal"] = model.training_step((same, torch.arange(len(PAIRS))), 0).item()
    assert losses["dropout"] == losses["dropout, equal"] == losses["pairs, equal"] < losses["pairs"]


def test_mistakes_are_explained(language, tmp_path):
    with pytest.raises(UserError, match="a bi-encoder has a cosine, not a logit: --model.loss mse"):
        Distillation("bi", language["bert"], {}, "cross")
    with pytest.raises(UserError, match="'.*nothing', neither a folder nor a hub id"):
        BiEncoder(str(tmp_path / "nothing"))


def test_pictures():
    gold = [0.1, 0.5, 0.9]
    panels = {"bi-encoder": [0.0, 0.2, 0.1], "cross-encoder": [0.3, 0.1, 0.2]}
    list_of_pairs = listing([Pair("a b", "c " * 99)] * 3, gold, panels)
    for picture in (*scatter(gold, panels), *cycles_chart(50.0, {"bi": [51, 52]}), list_of_pairs):
        assert picture.dtype == "uint8" and picture.ndim == 3 and picture.min() < 100 < picture.max()


def test_a_resumed_run_goes_on_with_the_next_batch(language, tmp_path):
    seen: dict[str, list[list[int]]] = {"undisturbed": [], "resumed": []}

    def run(name: str, checkpoint=None) -> None:
        class Recorded(Distillation):
            def training_step(self, batch, batch_idx):
                seen[name].append(batch[1].tolist())
                return super().training_step(batch, batch_idx)

            def on_train_batch_end(self, *_) -> None:
                if name == "undisturbed" and self.trainer.global_step == 1:
                    self.trainer.save_checkpoint(tmp_path / "first.ckpt")

        model = Recorded("bi", language["bert"], {"own": language["bert"]}, "bi", loss="mse")
        model.run_dir = tmp_path
        trainer = L.Trainer(**QUIET, max_epochs=2, default_root_dir=tmp_path)
        trainer.fit(model, PairData(WORLD, WORLD, batch_size=4), ckpt_path=checkpoint, weights_only=True)

    run("undisturbed")
    run("resumed", tmp_path / "first.ckpt")
    assert len(seen["undisturbed"]) == 6 and seen["resumed"] == seen["undisturbed"][1:]
