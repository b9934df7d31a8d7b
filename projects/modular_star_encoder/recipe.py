"""ModularStarEncoder: which arms are compared, and the stages each of them consists of."""

import sysconfig
from typing import Any

from common.recipe import Arm, Download, Output, Recipe, Scale, Stage

HOME = "projects.modular_star_encoder"
RELEASED = "$WEIGHTS_ROOT/ModularStarEncoder/model.safetensors"
FINETUNED = "$WEIGHTS_ROOT/ModularStarEncoder-finetuned/model.safetensors"
PAPER_EXITS = {11: 4, 25: 9, 50: 18, 75: 27, 100: 36}
EXITS: dict[Scale, dict[int, int]] = {
    "mini": {25: 1, 50: 2, 100: 4},
    "rehearsal": dict.fromkeys((25, 50, 100), PAPER_EXITS[25]),  # one cut model stands for all
    "paper": PAPER_EXITS,
}
"""The layer of each exit that has a single-exit arm, by its depth in percent, which names it at every scale."""


def arms(scale: Scale, stdlib: bool = False) -> dict[str, Arm]:
    """At mini scale each seed pre-trains a trunk of its own with each of three objectives; else it is the released one.

    The released trunk was pre-trained with in-context classification. One with another objective, or one that is made
    anew, asks for the paper's 512 GPUs.

    Args:
        stdlib: at mini scale, the standard library in the place of the world of small programs.
    """
    mini = scale == "mini"
    prepare = Stage("prepare", f"{HOME}.prepare", run="predict", shared=True)
    words = Stage("words", f"{HOME}.words", run="predict", shared=True)
    tokenizer: dict[str, Any] = {"data.tokenizer": (prepare if stdlib else words).output("tokenizer")} if mini else {}
    corpus, pairs, tested = {}, {}, {}
    if stdlib:
        corpus = {"data.repositories.init_args.files": prepare.output("repositories/train.parquet")}
        corpus |= {"data.held_out.init_args.files": prepare.output("repositories/val.parquet")}
        pairs = {"data.train.init_args.files": prepare.output("pairs/train.parquet")}
        pairs |= {"data.val.init_args.root": prepare.output("code")}
        tested = {"data.sets.functions.init_args.root": prepare.output("code")}

    def pretrain(objective: str) -> Stage:
        settings = {"data.objective": objective, **tokenizer, **corpus}
        return Stage("pretrain", f"{HOME}.pretrain", settings, shared=not mini, base="encoder")

    def finetune(trunk: Output | str, **settings: object) -> Stage:
        overrides = {"model.trunk": trunk, **tokenizer, **pairs, **settings}
        return Stage("finetune", f"{HOME}.finetune", overrides, base="encoder")

    def measure(**settings: object) -> Stage:
        overrides = {**settings, **tokenizer, **tested}
        overrides |= {"model.facts": prepare.output("data.json")} if stdlib else {}
        return Stage("evaluate", f"{HOME}.evaluate", overrides, run="test", base="encoder")

    def evaluate(stage: Stage, **settings: object) -> list[Stage]:
        return [measure(**{"model.weights": stage.weights}, **settings)]

    icc = pretrain("icc")
    asked = {"model.pretraining": icc.output("pretraining.json")} if mini else {}
    start: Output | str = icc.weights if mini else RELEASED
    multi = finetune(start)
    if scale == "rehearsal":  # every config once: other settings of one, and what comes after it, are the same code
        single = dict.fromkeys(EXITS[scale], multi)
        others = {"uniform": evaluate(multi), "mlm_only": [icc], "nsp": [icc]}
    else:
        single = {depth: finetune(start, **{"model.exits": [i]}) for depth, i in EXITS[scale].items()}
        others = {"uniform": evaluate(finetune(start, **{"model.weighting": "uniform"}))}
        others |= {name: evaluate(finetune(pretrain(name[:3]).weights)) for name in ("mlm_only", "nsp")}
    compared = {f"model.compare.{EXITS[scale][d]}": stage.weights for d, stage in single.items()} if mini else {}
    method = evaluate(multi, **compared, **asked)
    found = {"multi_exit": Arm(method, "one model, all exits, alpha_i = i / n", method=True)}
    for depth, stage in single.items():
        words_for = f"cut at {depth} % of the layers and fine-tuned for this exit alone"
        found[f"single_{depth}"] = Arm(evaluate(stage, **{"model.exits": [EXITS[scale][depth]]}), words_for)
    found["uniform"] = Arm(others["uniform"], "all exits count the same in fine-tuning")
    found["mlm_only"] = Arm(others["mlm_only"], "pre-trained on hidden tokens alone")
    found["nsp"] = Arm(others["nsp"], "pre-trained with next-sentence prediction in the place of ICC")
    if mini:
        lexical = Stage("lexical", f"{HOME}.lexical", {**tokenizer, **tested}, run="test", shared=True)
        found["lexical"] = Arm([lexical], "no model: common words, weighted by TF-IDF")
    else:
        clones = Stage("clones", f"{HOME}.clones", {"model.trunk": RELEASED}, base="encoder")
        settings = {"model.weights": clones.weights}
        measured = Stage("clones_test", f"{HOME}.clones", settings, run="test", base="encoder")
        found["clone_detection"] = Arm([measured], "the trunk fine-tuned on BigCloneBench, a classifier at each exit")
        found["released"] = Arm([measure(**{"model.weights": FINETUNED})], "the released fine-tuned model, evaluated")
    if scale == "paper":
        found["own_pretraining"] = Arm(evaluate(finetune(icc.weights)), "pre-trained here, as the released trunk was")
    return found


HUB = "huggingface.co/modularStarEncoder"
CODEXGLUE = "github.com/microsoft/CodeXGLUE"

RECIPE = Recipe(
    title="MoSE: Hierarchical Self-Distillation Enhances Early Layer Embeddings (ModularStarEncoder)",
    modality="code retrieval",
    arms=arms,
    arms_with=lambda data: arms("mini", stdlib=True),
    data={
        "stdlib": Download(
            name="the standard library of the Python that runs",
            path=sysconfig.get_path("stdlib"),
            source="it is there: nothing to download",
            gigabytes=0.05,
            licence="Python Software Foundation License",
        )
    },
    downloads=(
        Download(
            name="ModularStarEncoder, the pre-trained trunk",
            path=RELEASED,
            source=f"{HUB}/ModularStarEncoder: the file model.safetensors (its code is not needed)",
            gigabytes=2.21,
            licence="BigCode OpenRAIL-M v1",
        ),
        Download(
            name="ModularStarEncoder-finetuned, five exits (arm released)",
            path=FINETUNED,
            source=f"{HUB}/ModularStarEncoder-finetuned: the file model.safetensors (its code is not needed)",
            gigabytes=None,
            licence="BigCode OpenRAIL-M v1",
        ),
        Download(
            name="The Stack v2 with contents, for pre-training anew (arms mlm_only, nsp, own_pretraining)",
            path="$DATA_ROOT/the-stack-v2",
            source="bigcode/the-stack-v2-train-full-ids on the hub (gated), with contents from Software Heritage",
            gigabytes=None,
            licence="each file under its repository's licence",
            layout="*.parquet with rows `repo_name`, `files: [{content, ...}]` in random order, small row groups",
        ),
        Download(
            name="SynthCoNL",
            path="$DATA_ROOT/SynthCoNL",
            source=f"{HUB}, data set SynthCoNL (hf download --repo-type dataset --local-dir)",
            gigabytes=0.82,
            licence="other (see its card)",
            layout="data/train-*.parquet, a description and two versions of its code a row",
        ),
        Download(
            name="CodeSearchNet, six languages, as CodeXGLUE cleaned it",
            path="$DATA_ROOT/CodeSearchNet",
            source=f"{CODEXGLUE}, Code-Text/code-to-text",
            gigabytes=None,
            licence="each function under its repository's licence",
            layout="{ruby,javascript,go,python,java,php}/{train,valid,test}.jsonl",
        ),
        Download(
            name="POJ-104",
            path="$DATA_ROOT/POJ-104",
            source=f"{CODEXGLUE}, Code-Code/Clone-detection-POJ-104",
            gigabytes=None,
            licence="not stated",
            layout="{train,valid,test}.jsonl",
        ),
        Download(
            name="BigCloneBench, as CodeXGLUE filtered it (arm clone_detection)",
            path="$DATA_ROOT/BigCloneBench",
            source=f"{CODEXGLUE}, Code-Code/Clone-detection-BigCloneBench",
            gigabytes=None,
            licence="not stated",
            layout="data.jsonl, {train,valid,test}.txt",
        ),
    ),
    disk=400,
    stand_ins=f"{HOME}.harness.rehearsal:make",
    gpu="a100-64g",
    plan=f"{HOME}.harness.plan:workload",
    speed=f"{HOME}.harness.speed:speed",
)
