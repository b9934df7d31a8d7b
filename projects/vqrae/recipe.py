"""VQRAE: which arms are compared, and the stages each of them consists of."""

from common.recipe import Arm, Download, Recipe, Scale, Stage

DIMS = {  # of the codes, over the encoder's width (Table 5): arm -> dimension at mini and at paper scale
    "dim_two_ninths": (None, 256),
    "dim_third": (16, 384),
    "dim_two_thirds": (None, 768),
    "dim_width": (48, 1152),
    "dim_five_thirds": (80, 1920),
}
SIZES = {  # of the codebook
    "size_quarter": (128, 4096),
    "size_half": (None, 8192),
    "size_double": (1024, 32768),
}

# Table 7's other two variants, as settings on top of full_stage1.yaml and full_stage2.yaml
SIGLIP_512 = {
    "model.encoder.hub": "google/siglip2-so400m-patch16-512",
    "data.image_size": 512,
    "data.batch_size": 8,  # 16 do not fit 80 GB once the discriminator plays
    "trainer.accumulate_grad_batches": 16,
}
INTERNVIT = {
    "model.encoder.kind": "internvl",
    "model.encoder.hub": "OpenGVLab/InternVL3-8B-hf",
    "data.image_size": 448,
}
SIGLIP_256 = {
    "model.encoder.kind": "siglip",
    "model.encoder.hub": "google/siglip2-so400m-patch16-256",
    "data.image_size": 256,
}
INTERNVIT_BATCH = {
    "data.batch_size": 8,  # 16 do not fit 80 GB once the discriminator plays
    "trainer.accumulate_grad_batches": 12,
}


def arms(scale: Scale) -> dict[str, Arm]:
    """At mini scale the encoder and the perceptual nets are trained on the world; otherwise they are the paper's.

    A rehearsal runs every config once: arms that differ in a number or a switch alone share their stages there.
    """
    return mini_arms() if scale == "mini" else paper_arms(rehearsal=scale == "rehearsal")


def mini_arms() -> dict[str, Arm]:
    pictures = Stage("shape_pictures", "common.foundations.shape_pictures", run="predict", shared=True)

    def splits(*names: str) -> dict[str, object]:
        return {f"data.{name}.init_args.files": pictures.output(f"{name}.parquet") for name in names}

    def foundation(name: str, module: str = "classifier") -> Stage:
        return Stage(name, f"common.foundations.{module}", splits("train", "val"), shared=True)

    vit, vgg, convnext = (
        foundation("shape_vit", "local_classifier"),
        foundation("shape_vgg"),
        foundation("shape_convnext"),
    )
    encoder = {"model.encoder.weights": vit.weights}
    nets = {"model.perceptual.vgg_weights": vgg.weights, "model.perceptual.convnext_weights": convnext.weights}

    def train(name: str, **settings: object) -> Stage:
        given = {**encoder, **nets, **splits("train", "val"), **settings}
        return Stage(name, "projects.vqrae.train", given, base="tokenizer")

    def evaluate(stage: Stage, **settings: object) -> Stage:
        given = {
            **nets,
            **splits("train", "val", "test"),
            "model.head.source": vit.weights,
            "model.weights": stage.weights,
        }
        return Stage("evaluate", "projects.vqrae.evaluate", {**given, **settings}, run="test")

    stage1 = train("stage1")
    first = {"model.weights": stage1.weights}
    full = train("full_stage2", **first)
    tokenizer = {"model.tokenizer_weights": full.weights}
    learned = {**splits("train", "val"), **tokenizer}
    prior = Stage("prior", "projects.vqrae.prior", learned, base="generator")
    drawn = {**nets, **splits("val", "test"), **tokenizer, "model.weights": prior.weights}
    sample = Stage("sample", "projects.vqrae.sample", drawn, run="test", base="generator")
    whole: dict[str, object] = {"trainer.max_steps": 400}  # as many as both stages have
    sweep: dict[str, dict[str, object]] = {
        **{name: {"model.codebook.dim": dims[0]} for name, dims in DIMS.items() if dims[0]},
        **{name: {"model.codebook.size": sizes[0]} for name, sizes in SIZES.items() if sizes[0]},
    }
    return table(
        full=evaluate(full),
        two_stages_distilled=evaluate(train("stage2", **first)),
        two_stages=None,  # the cell that Table 6 leaves out: no claim is about it
        one_stage_distilled=evaluate(train("one_stage", **DISTILLED)),
        one_stage=evaluate(train("one_stage")),
        frozen=evaluate(train("stage2", **first, **FROZEN)),
        rae=evaluate(train("rae"), **CONTINUOUS),
        codebook=evaluate(train("stage1", **whole)),
        sweep={name: evaluate(train("stage1", **whole, **given), **given, **UNPROBED) for name, given in sweep.items()},
        sample=sample,
    )


UNDISTILLED = {"model.distill_weight": 0.0}
DISTILLED = {"model.distill_weight": 1.0}
FROZEN = {"model.train_encoder": False, "model.distill_weight": 0.0}
UNPROBED = {"model.probe_images": 0}  # the encoder of the codebook's arms is the same
CONTINUOUS = {"model.codebook.kind": "none"}


def paper_arms(rehearsal: bool) -> dict[str, Arm]:
    def train(name: str, **settings: object) -> Stage:
        return Stage(name, "projects.vqrae.train", settings, base="tokenizer")

    def evaluate(stage: Stage, **settings: object) -> Stage:
        given = {"model.weights": stage.weights, **settings}
        return Stage("evaluate", "projects.vqrae.evaluate", given, run="test")

    def both(one: dict[str, object], two: dict[str, object]) -> Stage:
        return train("full_stage2", **two, **{"model.weights": train("full_stage1", **one).weights})

    stage1 = train("stage1")
    first = {"model.weights": stage1.weights}
    distilled, one_stage = train("stage2", **first), train("one_stage")
    tokenizer: dict[str, object]
    if rehearsal:  # InternViT's 1024 tokens take long: one of its stages is enough, and the prior draws SigLIP2's 256
        siglip, internvit = train("full_stage2", **first), train("full_stage1", **INTERNVIT)
        tokenizer = {"model.tokenizer_weights": siglip.weights, **SIGLIP_256}
    else:
        siglip = both({}, {})
        internvit = both(
            {**INTERNVIT, **INTERNVIT_BATCH, "trainer.max_steps": 45000},
            {**INTERNVIT, **INTERNVIT_BATCH, "trainer.max_steps": 60000, "model.adversary.start": 30000},
        )
        tokenizer = {"model.tokenizer_weights": internvit.weights}
    prior = Stage("prior", "projects.vqrae.prior", tokenizer, base="generator")
    drawn = {**tokenizer, "model.weights": prior.weights}
    sample = Stage("sample", "projects.vqrae.sample", drawn, run="test", base="generator")
    sweep = {
        **{name: {"model.codebook.dim": dims[1]} for name, dims in DIMS.items()},
        **{name: {"model.codebook.size": sizes[1]} for name, sizes in SIZES.items()},
        "plain_vq": {"model.codebook.kind": "plain"},
    }
    whole: dict[str, object] = {"trainer.max_steps": 25000}  # Table 5's 20 epochs
    seen = evaluate(stage1 if rehearsal else train("stage1", **whole))
    arms = table(
        full=evaluate(siglip),
        two_stages_distilled=evaluate(distilled),
        two_stages=evaluate(train("stage2", **first, **UNDISTILLED) if not rehearsal else distilled),
        one_stage_distilled=evaluate(train("one_stage", **DISTILLED) if not rehearsal else one_stage),
        one_stage=evaluate(one_stage),
        frozen=evaluate(train("stage2", **first, **FROZEN) if not rehearsal else distilled),
        rae=evaluate(train("rae"), **CONTINUOUS),
        codebook=seen,
        sweep={
            name: seen if rehearsal else evaluate(train("stage1", **whole, **given), **given, **UNPROBED)
            for name, given in sweep.items()
        },
        sample=sample,
    )
    headless = {"model.head": None}  # its head is a language model: see README.md
    arms["internvit"] = Arm([evaluate(internvit, **INTERNVIT, **headless)], "VQRAE on InternViT-300M at 448 pixels")
    if not rehearsal:
        large = evaluate(
            both(SIGLIP_512, SIGLIP_512), **{**SIGLIP_512_TEST, "model.head.source": SIGLIP_512["model.encoder.hub"]}
        )
        arms["siglip2_512"] = Arm([large], "VQRAE on SigLIP2 at 512 pixels")
    return arms


SIGLIP_512_TEST = {name: SIGLIP_512[name] for name in ("model.encoder.hub", "data.image_size", "data.batch_size")}


def table(
    full: Stage,
    two_stages_distilled: Stage,
    two_stages: Stage | None,
    one_stage_distilled: Stage,
    one_stage: Stage,
    frozen: Stage,
    rae: Stage,
    codebook: Stage,
    sweep: dict[str, Stage],
    sample: Stage,
) -> dict[str, Arm]:
    """The arms in the order of the table, each by its last stage."""
    words = {"dim": "codes of dimension {} of the encoder's width", "size": "a codebook of {} the size"}

    def described(name: str) -> str:
        kind, _, amount = name.partition("_")
        known = words.get(kind, "codes that learn themselves, without a projection")
        return f"the same with {known.format(amount.replace('_', ' '))}"

    left_out = {"two_stages": Arm([two_stages], "frozen encoder, then all without distillation")} if two_stages else {}
    return {
        "vqrae": Arm([full], "two stages, self-distillation, discriminator: the whole method", method=True),
        "two_stages_distilled": Arm([two_stages_distilled], "frozen encoder, then all with distillation"),
        **left_out,
        "one_stage_distilled": Arm([one_stage_distilled], "all from the start, with distillation"),
        "one_stage": Arm([one_stage], "all from the start, without distillation"),
        "frozen": Arm([frozen], "the encoder stays frozen in both stages"),
        "rae": Arm([rae], "frozen encoder, continuous latent, no quantiser"),
        "codebook": Arm([codebook], "stage 1 alone: codes 4/3 as wide as the encoder"),
        **{name: Arm([stage], described(name)) for name, stage in sweep.items()},
        "prior": Arm([sample], "autoregressive prior over the tokens, given the caption"),
    }


RECIPE = Recipe(
    title="VQRAE: Representation Quantization Autoencoders for Multimodal Understanding, Generation and Reconstruction",
    modality="image tokenizer",
    arms=arms,
    downloads=(
        Download(
            name="ImageNet-1K",
            path="$DATA_ROOT/imagenet",
            source="image-net.org/challenges/LSVRC/2012 (accept the terms there)",
            gigabytes=150,
            licence="ImageNet terms, non-commercial research",
            layout="train/<synset>/*.JPEG, val/<synset>/*.JPEG, LOC_synset_mapping.txt",
        ),
        Download(
            name="BLIP3-o's open pretraining data, or a part of it",
            path="$DATA_ROOT/blip3o",
            source="huggingface.co/datasets/BLIP3o/BLIP3o-Pretrain-Long-Caption (-Short-Caption, -JourneyDB)",
            gigabytes=None,
            licence="see the data set's card",
            layout="*.tar, read as they are: <key>.jpg and <key>.txt; the first tar is for validation",
        ),
        Download(
            name="VGG16 for LPIPS",
            path="$WEIGHTS_ROOT/vgg16-397923af.pth",
            source="download.pytorch.org/models/vgg16-397923af.pth",
            gigabytes=0.55,
            licence="BSD-3-Clause",
        ),
        Download(
            name="ConvNeXt-S for the perceptual loss",
            path="$WEIGHTS_ROOT/convnext_small-0c510722.pth",
            source="download.pytorch.org/models/convnext_small-0c510722.pth",
            gigabytes=0.2,
            licence="BSD-3-Clause",
        ),
        Download(
            name="Inception for rFID",
            path="$WEIGHTS_ROOT/pt_inception-2015-12-05-6726825d.pth",
            source="github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
            gigabytes=0.09,
            licence="Apache-2.0",
        ),
        Download(
            name="GenEval's prompts",
            path="$DATA_ROOT/geneval/evaluation_metadata.jsonl",
            source="github.com/djghosh13/geneval, folder prompts",
            gigabytes=None,
            licence="MIT",
        ),
        Download(
            name="DPG-Bench's prompts",
            path="$DATA_ROOT/dpg_bench/prompts",
            source="github.com/TencentQQGYLab/ELLA, folder dpg_bench",
            gigabytes=None,
            licence="Apache-2.0",
            layout="*.txt",
        ),
    ),
    disk=300,
    stand_ins="projects.vqrae.harness.rehearsal:make",
    gpu="a100-80g",
    plan="projects.vqrae.harness.plan:workload",
)
