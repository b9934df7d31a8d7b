"""The arms that are compared, as chains of distillations; `recipe.py` says what they need."""

from dataclasses import dataclass

from common.recipe import Arm, Output, Scale, Stage

Source = str | Output
"""A hub id, or the folder that a stage leaves."""
DISTILL = "projects.trans_encoder.distill"
CONTRAST = "projects.trans_encoder.contrast"
CYCLES: dict[Scale, int] = {"mini": 2, "rehearsal": 1, "paper": 3}
CLASS_CYCLES = 5
"""On the tasks with classes (Table 16)."""
TASKS = ("qqp", "qnli", "mrpc")


@dataclass(frozen=True)
class Language:
    """A language model: as it is published, and as a bi-encoder trained without labels (SimCSE)."""

    plain: Source
    start: Source
    large: bool = False


@dataclass(frozen=True)
class Task:
    """What is learnt: sentence similarity, or with a name a task with classes, which has configs of its own."""

    name: str = ""

    def train(self, student: str, start: Source, teachers: dict[str, Source], **settings: object) -> Output:
        """One distillation, by the config of the student's kind: the folder with its student."""
        labels = {f"model.teachers.{who}": source for who, source in teachers.items()}
        settings = {"model.start": start, **labels, **settings}
        if not self.name:
            return Stage(student, DISTILL, settings).output("model")
        settings |= {f"data.{part}.init_args.task": self.name for part in ("train", "val")}
        if self.name == "qnli" and student == "cross":
            settings["data.both_orders"] = False  # a question comes before its answer
        return Stage(f"{student}_classes", DISTILL, settings, base="classes").output("model")

    def evaluate(self, **models: list[Source] | Source) -> Stage:
        """Measures models: lists, one a cycle, or single ones."""
        return evaluate(f"evaluate_{self.name}" if self.name else "evaluate", **models)


STS = Task()


def languages(scale: Scale, foundations: tuple[str, str]) -> tuple[Language, Language]:
    """A BERT and a RoBERTa. At mini scale both are trained here: the language model once, SimCSE with each seed."""
    if scale != "mini":
        return published("base")
    return trained_here(foundations[0]), trained_here(foundations[1])


def published(size: str) -> tuple[Language, Language]:
    """BERT and RoBERTa of a size, "base" or "large"."""
    bert, roberta = f"bert-{size}-uncased", f"roberta-{size}"
    large = size == "large"
    return (
        Language(bert, f"princeton-nlp/unsup-simcse-{bert}", large),
        Language(roberta, f"princeton-nlp/unsup-simcse-{roberta}", large),
    )


def trained_here(name: str) -> Language:
    """A small language model, which reads what its config says, and SimCSE on top of it."""
    world = name.startswith("sentence")
    module = "projects.trans_encoder.pretrain" if world else "common.foundations.masked_lm"
    plain = Stage(name, module, shared=True, base="language" if world else "base").output("model")
    start = Stage("contrast", CONTRAST, {"model.start": plain}).output("model")
    return Language(plain, start)


def evaluate(name: str = "evaluate", shared: bool = False, **models: list[Source] | Source) -> Stage:
    """Measures lists of models, one a cycle, and single ones; `shared` where all are published ones."""
    named = {
        f"model.{group}.{cycle}": source
        for group, sources in models.items()
        if isinstance(sources, list)
        for cycle, source in enumerate(sources, start=1)
    }
    single = {f"model.{name}": source for name, source in models.items() if not isinstance(source, list)}
    module = "projects.trans_encoder.evaluate"
    return Stage(name, module, {**named, **single}, run="test", shared=shared, base="evaluation")


Found = tuple[list[Source], list[Source]]
"""Bi- and cross-encoders by cycle."""


def self_distillation(language: Language, cycles: int, task: Task = STS, renew: bool = True) -> Found:
    """Models of all cycles; with `renew` every student starts afresh, else from the step before it."""
    bis: list[Source] = [language.start]
    crosses: list[Source] = []
    for _ in range(cycles):
        crosses.append(task.train("cross", language.plain if renew else bis[-1], {"own": bis[-1]}))
        start = language.start if renew else crosses[-1]
        bis.append(task.train("bi", start, {"own": crosses[-1]}, **bi_settings(language)))
    return bis[1:], crosses


def mutual_distillation(pair: tuple[Language, Language], cycles: int, task: Task = STS) -> tuple[Found, Found]:
    """The same of two language models, whose students all learn the mean of both models' scores."""
    bis = [[language.start] for language in pair]
    crosses: list[list[Source]] = [[], []]
    for _ in range(cycles):
        teachers = {"first": bis[0][-1], "second": bis[1][-1]}
        for number, language in enumerate(pair):
            crosses[number].append(task.train("cross", language.plain, teachers))
        teachers = {"first": crosses[0][-1], "second": crosses[1][-1]}
        for number, language in enumerate(pair):
            bis[number].append(task.train("bi", language.start, teachers, **bi_settings(language)))
    return (bis[0][1:], crosses[0]), (bis[1][1:], crosses[1])


def bi_settings(language: Language) -> dict[str, object]:
    """Large bi-encoders have half the batch (Table 16)."""
    return {"data.batch_size": 64} if language.large else {}


def self_training(language: Language, cycles: int) -> list[Source]:
    """Bi-encoders, each of which learns from the one before: as many trainings as the method's cycles have."""
    bis: list[Source] = [language.start]
    for _ in range(2 * cycles):
        bis.append(STS.train("bi", language.start, {"own": bis[-1]}, **{"model.teacher": "bi"}))
    return bis[1:]


def measured(
    found: Found, pair: tuple[Language, Language], partner: Found | None = None, task: Task = STS, name: str = ""
) -> Stage:
    """Evaluation of a distillation of the first of the pair, beside the bi-encoder it began with.

    Args:
        partner: models of the second of the pair, for the ensembles with them.
        name: of another evaluation than the task's own.
    """
    models: dict[str, list[Source] | Source] = {"bi": found[0], "cross": found[1], "start": pair[0].start}
    if partner:
        models |= {"partner_bi": partner[0], "partner_cross": partner[1], "partner_start": pair[1].start}
    return evaluate(name, **models) if name else task.evaluate(**models)


def distilled(pair: tuple[Language, Language], cycles: int, task: Task, suffix: str, what: str) -> dict[str, Arm]:
    """Two language models before the first cycle, after self-distillation, after mutual distillation: six arms."""
    own, own_roberta = (self_distillation(language, cycles, task) for language in pair)
    mutual, mutual_roberta = mutual_distillation(pair, cycles, task)
    swapped = (pair[1], pair[0])
    return {
        f"simcse{suffix}": Arm([task.evaluate(bi=[pair[0].start])], f"BERT's bi-encoder before the first cycle{what}"),
        f"simcse_roberta{suffix}": Arm(
            [task.evaluate(bi=[pair[1].start])], f"RoBERTa's bi-encoder before the first cycle{what}"
        ),
        f"self{suffix}": Arm(
            [measured(own, pair, own_roberta, task)],
            f"self-distillation: BERT's bi- and cross-encoder in turns{what}",
            method=True,
        ),
        f"self_roberta{suffix}": Arm(
            [measured(own_roberta, swapped, task=task)], f"self-distillation of RoBERTa{what}", method=True
        ),
        f"mutual{suffix}": Arm(
            [measured(mutual, pair, mutual_roberta, task)],
            f"mutual distillation: BERT learns the mean of both{what}",
            method=True,
        ),
        f"mutual_roberta{suffix}": Arm(
            [measured(mutual_roberta, swapped, task=task)],
            f"mutual distillation: RoBERTa learns the mean of both{what}",
            method=True,
        ),
    }


def distilled_here(pair: tuple[Language, Language], cycles: int) -> dict[str, Arm]:
    """The BERT's arms, at mini scale. The RoBERTa's ceiling lies below its start point there, so that it is no student
    that is judged; in mutual distillation it is the other teacher."""
    bert, roberta = pair
    mutual, _ = mutual_distillation(pair, cycles)
    return {
        "simcse": Arm([STS.evaluate(bi=[bert.start])], "BERT's bi-encoder before the first cycle"),
        "simcse_roberta": Arm([STS.evaluate(bi=[roberta.start])], "RoBERTa's bi-encoder before the first cycle"),
        "self": Arm(
            [measured(self_distillation(bert, cycles), pair)],
            "self-distillation: BERT's bi- and cross-encoder in turns",
            method=True,
        ),
        "mutual": Arm([measured(mutual, pair)], "mutual distillation: BERT learns the mean of both", method=True),
    }


def controls(pair: tuple[Language, Language], cycles: int) -> dict[str, Arm]:
    """What else could explain the gain, single steps with something changed, and the ceilings."""
    bert, roberta = pair
    first: dict[str, Source] = {"own": bert.start}
    longer = Stage("contrast_longer", CONTRAST, {"model.start": bert.start}).output("model")
    mse = STS.train("cross", bert.plain, first, **{"model.loss": "mse"})
    random = STS.train("cross", bert.plain, first, **{"model.load": False})
    ceilings = [Stage("supervised_cross", DISTILL, {"model.start": one.plain}).output("model") for one in pair]
    return {
        "self_training": Arm(
            [STS.evaluate(bi=self_training(bert, cycles))],
            "a bi-encoder teaches the next one, no cross-encoder between them",
        ),
        "simcse_longer": Arm([STS.evaluate(bi=[longer])], "SimCSE goes on, on the sentences of the training pairs"),
        "mse_cross": Arm(
            [measured(([], [mse]), pair)],
            "first cross-encoder, trained with squared errors instead of the cross-entropy",
        ),
        "random_cross": Arm(
            [measured(([], [random]), pair)], "first cross-encoder, from random weights instead of the language model's"
        ),
        "supervised_cross": Arm(
            [STS.evaluate(cross=[ceilings[0]])], "BERT's cross-encoder learns the gold scores: the ceiling"
        ),
        "supervised_cross_roberta": Arm(
            [STS.evaluate(cross=[ceilings[1]])], "RoBERTa's cross-encoder learns the gold scores: the ceiling"
        ),
    }


def beyond_mini(pair: tuple[Language, Language]) -> dict[str, Arm]:
    """What only the paper's scale has: large models, tasks with classes, other start points, the published models."""
    bert, roberta = pair
    cycles = CYCLES["paper"]
    large = published("large")
    mirror = Language(roberta.plain, "cambridgeltl/mirror-roberta-base-sentence-drophead")
    together = Stage("contrast_pairs", CONTRAST, {"model.start": roberta.start}).output("model")
    own, own_roberta = (self_distillation(language, cycles) for language in pair)
    found = {
        "continued": Arm(
            [measured(self_distillation(bert, cycles, renew=False), pair)],
            "self-distillation in which each student goes on from the step before (Table 13)",
        ),
        "contrast_pairs": Arm(
            [STS.evaluate(bi=[together])],
            "RoBERTa's bi-encoder, contrastive training with pairs as positives (Table 9)",
        ),
        "mirror": Arm([STS.evaluate(bi=[mirror.start])], "Mirror-BERT's RoBERTa with drophead (Table 4)"),
        "self_mirror": Arm(
            [measured(self_distillation(mirror, cycles), (mirror, bert))],
            "self-distillation of it (Table 4)",
            method=True,
        ),
        "simcse_transfer": Arm(
            [evaluate("evaluate_transfer", bi=[roberta.start])],
            "RoBERTa's bi-encoder on the tasks with classes (Table 3)",
        ),
        "self_transfer": Arm(
            [measured(own_roberta, (roberta, bert), name="evaluate_transfer")],
            "RoBERTa's self-distillation on STS pairs, measured on the tasks with classes (Table 3)",
            method=True,
        ),
    }
    for size, suffix in (("base", ""), ("large", "_large")):
        for plain, name in (("bert", "released"), ("roberta", "released_roberta")):
            bi, cross = (f"cambridgeltl/trans-encoder-{kind}-simcse-{plain}-{size}" for kind in ("bi", "cross"))
            found[name + suffix] = Arm(
                [evaluate(shared=True, bi=[bi], cross=[cross])],
                f"the published {plain}-{size} models, measured as they are",
            )
    found |= distilled(large, cycles, STS, "_large", ", large")
    for task in TASKS:
        found |= distilled(pair, CLASS_CYCLES, Task(task), f"_{task}", f", on {task.upper()}")
    return found


def rehearsed(pair: tuple[Language, Language]) -> dict[str, Arm]:
    """The paper's configs, each once: one cycle is like another, and so are tasks, sizes and start points."""
    bert, roberta = pair
    mutual, mutual_roberta = mutual_distillation(pair, 1)
    classes = self_distillation(bert, 1, Task("mrpc"))
    longer, together = (
        Stage(name, CONTRAST, {"model.start": bert.start}).output("model")
        for name in ("contrast_longer", "contrast_pairs")
    )
    ceiling = Stage("supervised_cross", DISTILL, {"model.start": bert.plain}).output("model")
    return {
        "lexical": Arm([evaluate()], "no model: the share of common words"),
        "mutual": Arm([measured(mutual, pair, mutual_roberta)], "mutual distillation", method=True),
        "self_qnli": Arm([measured(classes, pair, task=Task("qnli"))], "a task with classes"),
        "self_qqp": Arm([Task("qqp").evaluate(bi=classes[0])], "another"),
        "self_mrpc": Arm([Task("mrpc").evaluate(bi=classes[0])], "a third"),
        "self_transfer": Arm([evaluate("evaluate_transfer", cross=mutual[1])], "all three, by models for STS"),
        "simcse_longer": Arm([evaluate(bi=[longer, together])], "both contrastive trainings"),
        "supervised_cross": Arm([evaluate(cross=[ceiling])], "the ceiling"),
    }


def arms(scale: Scale, foundations: tuple[str, str] = ("sentence_bert", "sentence_roberta")) -> dict[str, Arm]:
    """The method, what it is compared with, and controls."""
    pair = languages(scale, foundations)
    if scale == "rehearsal":
        return rehearsed(pair)
    found = {"lexical": Arm([evaluate()], "no model: the share of common words")}
    cycles = CYCLES[scale]
    if scale == "mini":
        return found | distilled_here(pair, cycles) | controls(pair, cycles)
    return found | distilled(pair, cycles, STS, "", "") | controls(pair, cycles) | beyond_mini(pair)
