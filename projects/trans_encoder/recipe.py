"""Trans-Encoder: which arms are compared, and the stages each of them consists of."""

from dataclasses import dataclass

from common.recipe import Arm, Download, Output, Recipe, Scale, Stage

Source = str | Output
"""A hub id, or the folder that a stage leaves."""
DISTILL = "projects.trans_encoder.distill"
CYCLES: dict[Scale, int] = {"mini": 2, "rehearsal": 1, "paper": 3}


@dataclass(frozen=True)
class Language:
    """A language model: as it is published, and as a bi-encoder trained without labels (SimCSE)."""

    plain: Source
    start: Source


def languages(scale: Scale, foundations: tuple[str, str]) -> tuple[Language, Language]:
    """A BERT and a RoBERTa. At mini scale both are trained here: the language model once, SimCSE with each seed."""
    if scale != "mini":
        return (
            Language("bert-base-uncased", "princeton-nlp/unsup-simcse-bert-base-uncased"),
            Language("roberta-base", "princeton-nlp/unsup-simcse-roberta-base"),
        )
    return trained_here(foundations[0]), trained_here(foundations[1])


def trained_here(foundation: str) -> Language:
    """A small language model, the foundation of this name, and SimCSE on top of it."""
    plain = Stage(foundation, "common.foundations.masked_lm", shared=True).output("model")
    start = Stage("contrast", "projects.trans_encoder.contrast", {"model.start": plain}).output("model")
    return Language(plain, start)


def train(name: str, start: Source, teachers: dict[str, Source], **settings: object) -> Output:
    """One distillation, by the config of this name: the folder with its student."""
    labels = {f"model.teachers.{who}": source for who, source in teachers.items()}
    return Stage(name, DISTILL, {"model.start": start, **labels, **settings}).output("model")


def evaluate(**models: list[Source] | Source) -> Stage:
    """Measures lists of models, one a cycle."""
    named = {
        f"model.{group}.{cycle}": source
        for group, sources in models.items()
        if isinstance(sources, list)
        for cycle, source in enumerate(sources, start=1)
    }
    single = {f"model.{name}": source for name, source in models.items() if not isinstance(source, list)}
    return Stage("evaluate", "projects.trans_encoder.evaluate", {**named, **single}, run="test")


def self_distillation(language: Language, cycles: int, renew: bool = True) -> tuple[list[Source], list[Source]]:
    """Bi- and cross-encoders of all cycles; with `renew` every student starts afresh, else from the step before it."""
    bis: list[Source] = [language.start]
    crosses: list[Source] = []
    for _ in range(cycles):
        crosses.append(train("cross", language.plain if renew else bis[-1], {"own": bis[-1]}))
        bis.append(train("bi", language.start if renew else crosses[-1], {"own": crosses[-1]}))
    return bis[1:], crosses


def mutual_distillation(pair: tuple[Language, Language], cycles: int) -> list[tuple[list[Source], list[Source]]]:
    """The same of two language models, whose students all learn the mean of both models' scores."""
    bis = [[language.start] for language in pair]
    crosses: list[list[Source]] = [[], []]
    for _ in range(cycles):
        teachers = {"first": bis[0][-1], "second": bis[1][-1]}
        for number, language in enumerate(pair):
            crosses[number].append(train("cross", language.plain, teachers))
        teachers = {"first": crosses[0][-1], "second": crosses[1][-1]}
        for number, language in enumerate(pair):
            bis[number].append(train("bi", language.start, teachers))
    return [(bis[number][1:], crosses[number]) for number in range(2)]


def self_training(language: Language, cycles: int) -> list[Source]:
    """Bi-encoders of all cycles, each of which learns from the one before."""
    bis: list[Source] = [language.start]
    for _ in range(cycles):
        bis.append(train("bi", language.start, {"own": bis[-1]}, **{"model.teacher": "bi"}))
    return bis[1:]


Found = tuple[list[Source], list[Source]]
"""Bi- and cross-encoders by cycle."""


def measured(found: Found, language: Language, partner: Found | None = None) -> Stage:
    """Evaluation of a distillation, beside the bi-encoder it began with; with `partner`, of the ensembles too."""
    others = {"partner_bi": partner[0], "partner_cross": partner[1]} if partner else {}
    return evaluate(bi=found[0], cross=found[1], start=language.start, **others)


def arms(scale: Scale, foundations: tuple[str, str] = ("sentence_bert", "sentence_roberta")) -> dict[str, Arm]:
    """The method, what it is compared with, and controls. One cycle is like the other: a rehearsal needs but one."""
    cycles = CYCLES[scale]
    bert, roberta = pair = languages(scale, foundations)
    mutual, mutual_roberta = mutual_distillation(pair, cycles)
    first: dict[str, Source] = {"own": bert.start}
    if scale == "rehearsal":  # the same configs with one teacher less, or with another start or loss: once will do
        own, own_roberta, continued, alone = mutual, mutual_roberta, mutual, mutual[0]
        mse = random = mutual[1][0]
    else:
        own, own_roberta = self_distillation(bert, cycles), self_distillation(roberta, cycles)
        continued, alone = self_distillation(bert, cycles, renew=False), self_training(bert, cycles)
        mse = train("cross", bert.plain, first, **{"model.loss": "mse"})
        random = train("cross", bert.plain, first, **{"model.load": False})
    longer = Stage("contrast_longer", "projects.trans_encoder.contrast", {"model.start": bert.start}).output("model")
    return {
        "lexical": Arm([evaluate()], "no model: the share of common words"),
        "simcse": Arm([evaluate(bi=[bert.start])], "BERT's bi-encoder before the first cycle"),
        "simcse_roberta": Arm([evaluate(bi=[roberta.start])], "RoBERTa's bi-encoder before the first cycle"),
        "self": Arm([measured(own, bert)], "self-distillation: BERT's bi- and cross-encoder in turns", method=True),
        "self_roberta": Arm([measured(own_roberta, roberta)], "self-distillation of RoBERTa", method=True),
        "mutual": Arm(
            [measured(mutual, bert, mutual_roberta)], "mutual distillation: BERT learns the mean of both", method=True
        ),
        "mutual_roberta": Arm(
            [measured(mutual_roberta, roberta, mutual)],
            "mutual distillation: RoBERTa learns the mean of both",
            method=True,
        ),
        "continued": Arm(
            [measured(continued, bert)], "self-distillation in which each student goes on from the step before"
        ),
        "self_training": Arm(
            [evaluate(bi=alone)],
            "a bi-encoder teaches the next one, no cross-encoder between them",
        ),
        "simcse_longer": Arm([evaluate(bi=[longer])], "SimCSE goes on, on the sentences of the training pairs"),
        "mse_cross": Arm(
            [evaluate(cross=[mse])],
            "first cross-encoder, trained with squared errors instead of the cross-entropy",
        ),
        "random_cross": Arm(
            [evaluate(cross=[random])],
            "first cross-encoder, from random weights instead of the language model's",
        ),
        "supervised_cross": Arm(
            [evaluate(cross=[train("supervised_cross", bert.plain, {})])],
            "a cross-encoder that learns the gold scores: the ceiling",
        ),
    }


RECIPE = Recipe(
    title="Trans-Encoder: Unsupervised sentence-pair modelling through self- and mutual-distillations",
    modality="sentence pairs",
    arms=arms,
    arms_with=lambda data: arms("mini", ("sts_bert", "sts_roberta")),
    data={
        "sts": Download(
            name="SemEval STS 2012 to 2016 and SICK",
            path="$DATA_ROOT",
            source="github.com/brmson/dataset-sts, folder data/sts",
            gigabytes=0.01,
            licence="each subset under its source's terms; SICK: CC BY-NC-SA 3.0",
            layout="semeval-sts/<year>/<subset>.test.tsv, sick2014/SICK_{train,trial,test_annotated}.txt",
        )
    },
    downloads=(
        Download(
            name="SemEval STS 2012 to 2016",
            path="$DATA_ROOT/STS",
            source="SentEval's get_transfer_data script, ixa2.si.ehu.eus/stswiki",
            gigabytes=0.01,
            licence="each subset under its source's terms",
            layout="STS<yy>-en-test/STS.input.<subset>.txt and STS.gs.<subset>.txt, or <year>/<subset>.test.tsv",
        ),
        Download(
            name="STS benchmark",
            path="$DATA_ROOT/STS/STSBenchmark",
            source="ixa2.si.ehu.eus/stswiki (Stsbenchmark.tar.gz), or SentEval's get_transfer_data script",
            gigabytes=0.002,
            licence="its parts under their sources' terms",
            layout="sts-{train,dev,test}.csv, or stsbenchmark.tsv.gz",
        ),
        Download(
            name="SICK",
            path="$DATA_ROOT/SICK",
            source="SemEval 2014 task 1, or SentEval's get_transfer_data script",
            gigabytes=0.002,
            licence="CC BY-NC-SA 3.0",
            layout="SICK_{train,trial,test_annotated}.txt",
        ),
    ),
    disk=30,
    stand_ins="projects.trans_encoder.harness.rehearsal:make",
    gpu="a100-80g",
    plan="projects.trans_encoder.harness.plan:workload",
)
