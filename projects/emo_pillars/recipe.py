"""Emo Pillars: which classifiers are compared, and the stages each of them consists of."""

from collections.abc import Mapping
from typing import Any

from common.downloads import GOEMOTIONS
from common.recipe import Arm, Download, Recipe, Scale, Stage

TRAIN, TEST, PIPELINE = (f"projects.emo_pillars.{name}" for name in ("train", "evaluate", "synthesize"))
DATA, SOURCE = "data.task.init_args", "data.source.init_args"
Settings = Mapping[str, Any]
DESCRIPTIONS = {
    "gold": "the target domain's own examples alone",
    "synthetic": "synthetic utterances alone, the target domain unseen",
    "tuned": "synthetic utterances, then the target domain's examples",
    "tuned_ungrounded": "as tuned, the utterances written without a plot",
    "unmapped": "as synthetic, words outside the taxonomy are dropped instead of remapped",
    "cut_0.1": "as synthetic, every level from 0.1 on is a label",
    "soft_targets": "as synthetic, the levels themselves are the targets",
    "contextual": "context and utterance, as they are and as they are rewritten",
    "contextual_tenth": "as contextual, from a tenth of the plots, in as many steps",
    "untyped": "as contextual, without token types",
    "contextless_on_context": "the classifier of synthetic, given context and utterance as one text",
    "utterances": "what the pipeline has written: utterances",
    "utterances_ungrounded": "utterances written without a plot",
    "levels": "what the pipeline has written: levels of emotions",
    "contexts": "what the pipeline has written: contexts, and utterances that need them",
}
VARIANTS: dict[str, Settings] = {
    "unmapped": {f"{DATA}.remap": False},
    "cut_0.1": {f"{DATA}.cut": 0.1},
    "soft_targets": {f"{DATA}.cut": None},
}


def arms(scale: Scale) -> dict[str, Arm]:
    """The grammar's stories at mini scale; else the released data set, the pipeline, and the paper's gold sets."""
    return stories() if scale == "mini" else gold_sets(scale == "rehearsal")


def pipeline(told: bool = True, contexts: bool = True, shared: bool = False) -> Stage:
    """The steps from plots to a data set, each from what the one before has written; for each seed, or once for all."""
    overrides: dict[str, Any] = {} if told else {f"{SOURCE}.told": False}
    stage = Stage("characters", PIPELINE, overrides, "test", shared, "pipeline")
    for name in ("utterances", "levels", *(["contexts"] if contexts else [])):
        stage = Stage(name, PIPELINE, {f"{SOURCE}.path": stage.output("records.jsonl")}, "test", shared, "pipeline")
    return stage


def written_by(told: Stage, loose: Stage) -> dict[str, list[Stage]]:
    """The pipeline's own steps, whose figures say what it has written."""
    levels, lost = told.upstream()[0], loose.upstream()[0]
    return {"utterances": levels.upstream(), "utterances_ungrounded": [lost], "levels": [levels], "contexts": [told]}


def named(found: Mapping[str, list[Stage]]) -> dict[str, Arm]:
    return {name: Arm(stages, DESCRIPTIONS[name], method=name == "tuned") for name, stages in found.items()}


def stories() -> dict[str, Arm]:
    """One synthetic set a seed, and one without plots; classifiers with the same vocabulary."""
    words = Stage("vocabulary", "projects.emo_pillars.vocabulary", run="test", shared=True)
    tokenizer: Settings = {"data.tokenizer": words.output("tokenizer")}
    written, loose = pipeline(), pipeline(told=False, contexts=False)

    def train(config: str, data: Stage | None = None, /, **settings: Any) -> Stage:
        root = {f"{DATA}.root": data.output("data")} if data else {}
        return Stage(config, TRAIN, {**tokenizer, **root, **settings}, base="contextless")

    def test(of: Stage, config: str = "evaluate", **settings: Any) -> list[Stage]:
        data = {"data.synthetic": written.output("data"), "model.weights": of.weights}
        return [Stage(config, TEST, {**tokenizer, **data, **settings}, "test", base="evaluate")]

    plain = train("contextless", written)
    full = {name: train("contextual", written, **settings) for name, settings in CONTEXTUAL.items()}
    found = {
        "gold": test(train("gold")),
        "synthetic": test(plain),
        "tuned": test(train("tune", **{"model.weights": plain.weights})),
        "tuned_ungrounded": test(train("tune", **{"model.weights": train("contextless", loose).weights})),
        **{name: test(train("contextless", written, **settings)) for name, settings in VARIANTS.items()},
        "contextual": test(full["contextual"], "evaluate_contextual"),
        "contextual_tenth": test(full["contextual_tenth"], "evaluate_contextual"),
        "untyped": test(full["untyped"], "evaluate_contextual", **{"model.net.token_types": None}),
        "contextless_on_context": test(plain, "evaluate_contextual", **{"data.joined": True}),
        **written_by(written, loose),
    }
    return named(found)


CONTEXTUAL: dict[str, Settings] = {
    "contextual": {},
    "contextual_tenth": {f"{DATA}.plots": 0.1, "trainer.max_epochs": 10, "trainer.check_val_every_n_epoch": 10},
    "untyped": {"model.net.token_types": None},
}


ALL: Settings = {
    "data.train_examples": None,
    "data.batch_size": 64,
    "trainer.max_epochs": 3,
    "trainer.check_val_every_n_epoch": 3,
}
"""Training on all labels of GoEmotions, or on half of them, in place of a few."""


def comments() -> dict[str, Arm]:
    """GoEmotions: a classifier of half the comments grades the other half, and students learn its levels."""
    words = Stage("vocabulary", "projects.emo_pillars.vocabulary", run="test", shared=True)
    tokenizer: Settings = {"data.tokenizer": words.output("tokenizer")}
    half = {"data.task": "projects.emo_pillars.records.HalfOfGoEmotions", f"{DATA}.root": "$DATA_ROOT", **ALL}
    teacher = Stage("gold", TRAIN, {**tokenizer, **half}, shared=True, base="contextless")
    answers = {
        "model.llm.init_args.weights": teacher.weights,
        "model.llm.init_args.tokenizer": words.output("tokenizer"),
    }
    graded = Stage("levels", PIPELINE, answers, "test", shared=True, base="pipeline")

    def train(config: str, **settings: Any) -> Stage:
        return Stage(config, TRAIN, {**tokenizer, **settings}, base="contextless")

    def test(of: Stage) -> list[Stage]:
        settings = {**tokenizer, "model.weights": of.weights}
        return [Stage("evaluate", TEST, settings, "test", of.shared)]

    plain = train("contextless", **{f"{DATA}.root": graded.output("data")})
    return {
        "llm": Arm(test(teacher), "the classifier that grades, trained on half the comments and their labels"),
        "gold_all": Arm(test(train("gold", **ALL)), "all 43,410 comments and their labels"),
        "gold": Arm(test(train("gold")), "600 comments and their labels alone"),
        "synthetic": Arm(test(plain), "graded comments alone"),
        "tuned": Arm(
            test(train("tune", **{"model.weights": plain.weights})), "graded comments, then 600 labelled ones", True
        ),
        "levels": Arm([graded], "what the classifier has graded"),
    }


def gold_sets(rehearsed: bool) -> dict[str, Arm]:
    """RoBERTa-large on the released data; tuned on GoEmotions, ISEAR and EmoContext; and on data made here."""
    released: Settings = {f"{DATA}.root": "$DATA_ROOT/emopillars/context-less"}

    def train(config: str, of: Stage | None = None, /, **settings: Any) -> Stage:
        return Stage(config, TRAIN, {**({"model.weights": of.weights} if of else {}), **settings}, base="train")

    def test(of: Stage, config: str = "evaluate", **settings: Any) -> Arm:
        name = settings.pop("arm")
        stage = Stage(config, TEST, {"model.weights": of.weights, **settings}, "test", base="evaluate")
        return Arm([stage], DESCRIPTIONS.get(name, MORE.get(name, "")), name == "tuned")

    plain = train("contextless", **released)
    written, loose = pipeline(shared=True), pipeline(told=False, contexts=False, shared=True)
    own = train("contextless", **{f"{DATA}.root": written.upstream()[0].output("data")})
    full = train("contextual")
    found = {
        "gold": test(train("tune"), arm="gold"),
        "synthetic": test(plain, arm="synthetic"),
        "tuned": test(train("tune", plain), arm="tuned"),
        "tuned_own": test(train("tune", own), arm="tuned_own"),
        "contexts": Arm([written], DESCRIPTIONS["contexts"]),
        "contextual": test(full, "evaluate_contextual", arm="contextual"),
        "contextless_on_context": test(
            plain, "evaluate_contextual", **UNTYPED, **{"data.joined": True}, arm="contextless_on_context"
        ),
        "tuned_isear": test(train("tune_isear", plain), "evaluate_isear", arm="tuned_isear"),
        "tuned_emocontext": test(train("tune_emocontext", full), "evaluate_emocontext", arm="tuned_emocontext"),
        "released": Arm([Stage("evaluate_released", TEST, {}, "test", True, "evaluate")], MORE["released"]),
    }
    if rehearsed:
        return found
    bare, vague = train("contextual", **UNTYPED), train("contextless", **{f"{DATA}.root": loose.output("data")})
    large: Settings = {"model.net.pretrained": BERT, "data.tokenizer": BERT}
    other = train("contextless", **released, **large)
    found |= {
        "tuned_ungrounded": test(train("tune", vague), arm="tuned_ungrounded"),
        **{name: test(train("contextless", **released, **s), arm=name) for name, s in VARIANTS.items()},
        "contextual_tenth": test(
            train("contextual", **{f"{DATA}.plots": 0.1}), "evaluate_contextual", arm="contextual_tenth"
        ),
        "untyped": test(bare, "evaluate_contextual", **UNTYPED, arm="untyped"),
        "untyped_emocontext": test(
            train("tune_emocontext", bare, **UNTYPED), "evaluate_emocontext", **UNTYPED, arm="untyped_emocontext"
        ),
        "tuned_bert": test(train("tune", other, **large), **large, arm="tuned_bert"),
        "gold_isear": test(train("tune_isear"), "evaluate_isear", arm="gold_isear"),
        **named(written_by(written, loose)),
    }
    return found


BERT = "google-bert/bert-large-uncased"
UNTYPED: Settings = {"model.net.token_types": None}
MORE = {
    "tuned_own": "as tuned, on utterances that the pipeline has written here",
    "tuned_bert": "as tuned, with BERT-large",
    "tuned_isear": "synthetic utterances, then ISEAR",
    "gold_isear": "ISEAR alone",
    "tuned_emocontext": "contexts, then EmoContext",
    "untyped_emocontext": "contexts, then EmoContext, without token types",
    "released": "the published classifier that was tuned on GoEmotions, measured as it is",
}


RECIPE = Recipe(
    title="Emo Pillars: Knowledge Distillation to Support Fine-Grained Emotion Classification",
    modality="emotion classification",
    arms=arms,
    arms_with=lambda data: comments(),
    data={"goemotions": GOEMOTIONS},
    downloads=(
        Download(
            name="Emo Pillars: 300,000 utterances, 100,000 of them with contexts",
            path="$DATA_ROOT/emopillars",
            source="huggingface.co/datasets/alex-shvets/EmoPillars",
            gigabytes=None,
            licence="see its card",
            layout="{context-less,context-full}/{train,dev,test}.jsonl, sorted so by you",
        ),
        Download(
            name="GoEmotions",
            path="$DATA_ROOT/goemotions",
            source="github.com/google-research/google-research, folder goemotions/data",
            gigabytes=0.005,
            licence="CC BY 4.0",
            layout="train.tsv, dev.tsv, test.tsv and emotions.txt",
        ),
        Download(
            name="ISEAR: 7,600 reports of seven emotions",
            path="$DATA_ROOT/isear",
            source="Swiss Center for Affective Sciences, University of Geneva",
            gigabytes=0.001,
            licence="for research",
            layout="isear.csv (emotion, text; no header)",
        ),
        Download(
            name="EmoContext (SemEval-2019 task 3): 38,000 dialogues of three turns",
            path="$DATA_ROOT/emocontext",
            source="humanizing-ai.com/emocontext.html",
            gigabytes=0.005,
            licence="by its owners, for research",
            layout="train.txt, dev.txt, test.txt (id, turn1, turn2, turn3, label; tabs, a header)",
        ),
        Download(
            name="WikiPlots: 113,000 plots",
            path="$DATA_ROOT/wikiplots",
            source="github.com/markriedl/WikiPlots, which links the archive",
            gigabytes=0.3,
            licence="CC BY-SA 3.0 (Wikipedia)",
            layout="plots and titles, as unpacked",
        ),
    ),
    disk=60,
    stand_ins="projects.emo_pillars.harness.rehearsal:make",
    gpu="h100",
    plan="projects.emo_pillars.harness.plan:workload",
    speed="projects.emo_pillars.harness.speed:speed",
)
