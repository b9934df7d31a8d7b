"""VLV: which arms are compared, and the stages each of them consists of."""

from collections.abc import Mapping

from common.downloads import INCEPTION
from common.recipe import Arm, Download, Recipe, Scale, Stage

T2I = Stage("glyph_text_to_image", "common.foundations.text_to_image", shared=True)
ENCODER = "encoder"  # the config that all stages with one share
QUERIES = {"mini": (8, 2), "paper": (77, 16)}  # N_q: all positions of the text encoder, and few (Table 4)
IMAGES = {  # of stage 1: few of them (Table 5); at paper scale 600 tars of 10,000 make 6 of the 40 million
    "mini": {"data.train.init_args.size": 48},
    "paper": {"data.train.init_args.last": 600},
}
COCO_2017 = {  # Table 4's pictures; Table 5's and Table 1's are of 2014, as redraw.yaml and evaluate.yaml have them
    "data.test.init_args.images": "$DATA_ROOT/coco/val2017",
    "data.test.init_args.captions": "$DATA_ROOT/coco/annotations/captions_val2017.json",
}
SMALL = {"hidden": 32, "layers": 1}  # the mini scale's smaller decoder
HUB = {name: {"model.language_model": f"Qwen/Qwen2.5-{name}"} for name in ("0.5B", "1.5B")}
RELEASED = "lambertxiao/Vision-Language-Vision-Captioner-Qwen2.5-3B"
RATES = {"adapter": 4e-3, "language_model": 1e-3, "encoder": 1e-3}  # of stage 2 at mini scale, by what learns
# of stage 2 at mini scale: as many operations as both stages of `vlv`, at stage 1's batch
EQUAL_WORK = {"trainer.max_steps": 931, "data.batch_size": 32}

Settings = Mapping[str, object]


def arms(scale: Scale) -> dict[str, Arm]:
    """At mini scale diffusion and language model are trained on the world; else they are the hub's.

    A rehearsal runs every config once: arms that differ in a number or a name alone share their stages there.
    """
    mini, rehearsal = scale == "mini", scale == "rehearsal"

    def vary(settings: Settings) -> Settings:
        return {} if rehearsal else settings

    def language(**sizes: object) -> Settings:
        settings = {f"model.{name}": value for name, value in sizes.items()}
        stage = Stage("glyph_qwen2", "common.foundations.causal_lm", settings, shared=True)
        return {"model.language_model": stage.output("model")}

    drawing: Settings = {"model.text_to_image": T2I.output("model")} if mini else {}
    decoder = language() if mini else {}
    small = language(**SMALL) if mini else vary(HUB["0.5B"])
    full, few = QUERIES["mini" if mini else "paper"]

    def reconstruct(settings: Settings) -> Stage:
        return Stage("reconstruct", "projects.vlv.reconstruct", {**drawing, **settings}, base=ENCODER)

    def redraw(stage: Stage, settings: Settings) -> Stage:
        given = {**drawing, **settings, "model.weights": stage.weights}
        return Stage("redraw", "projects.vlv.redraw", given, run="test", base=ENCODER)

    def describe(start: Stage | None, unfrozen: str, words: Settings, more: Settings) -> Stage:
        given: dict[str, object] = {**drawing, **words, **vary({"model.unfrozen": unfrozen}), **more}
        if start := stage1 if rehearsal else start:
            given["model.encoder_weights"] = start.weights
        given |= {"model.lr": RATES[unfrozen]} if mini else {}
        return Stage("describe", "projects.vlv.describe", given, base=ENCODER)

    def evaluate(settings: Settings, shared: bool = False) -> Stage:
        given = {**drawing, **settings}
        return Stage("evaluate", "projects.vlv.evaluate", given, run="test", shared=shared, base=ENCODER)

    def judged(
        start: Stage | None, unfrozen: str = "encoder", words: Settings = decoder, more: Settings | None = None
    ) -> Stage:
        return evaluate({**words, "model.weights": describe(start, unfrozen, words, more or {}).weights})

    stage1 = reconstruct({})
    fewer = vary({"model.queries": few})
    coco = {} if mini else COCO_2017
    images = reconstruct(vary(IMAGES["mini" if mini else "paper"]))
    found = {
        "vlv": Arm([judged(stage1)], "stage 1, then psi, language model and encoder learn from pairs", method=True),
        "frozen": Arm([judged(stage1, "language_model")], "the encoder stays as stage 1 left it"),
        "psi_only": Arm([judged(stage1, "adapter")], "encoder and language model stay, psi alone learns from pairs"),
        "no_stage1": Arm([judged(None, "language_model")], "no stage 1, and the encoder stays as it began"),
        "no_stage1_trainable": Arm([judged(None)], "no stage 1, but all learn from pairs in stage 2"),
        "decoder_small": Arm([judged(stage1, words=small)], "the method with a smaller language model"),
        "frozen_small": Arm([judged(stage1, "language_model", small)], "`frozen` with a smaller language model"),
        "captions": Arm([evaluate({**decoder, "model.captions": "data"}, shared=True)], "the data's own captions"),
        "queries": Arm([redraw(stage1, coco)], f"redrawn from embeddings: {full} queries"),
        "queries_few": Arm([redraw(reconstruct(fewer), {**coco, **fewer})], f"redrawn from embeddings: {few} queries"),
        "images_all": Arm([redraw(stage1, {})], "redrawn from embeddings: all images in stage 1"),
        "images_few": Arm([redraw(images, {})], "redrawn from embeddings: a small part of the images in stage 1"),
    }
    if mini:
        found["no_stage1_equal_work"] = Arm(
            [judged(None, more=EQUAL_WORK)],
            "no stage 1, but psi, language model and encoder learn from pairs, in the work of both stages of `vlv`",
        )
        return found
    found["released"] = Arm([evaluate({"model.weights": RELEASED}, shared=True)], "the authors' captioner, as it is")
    if not rehearsal:
        found["decoder_middle"] = Arm([judged(stage1, words=HUB["1.5B"])], "the method with Qwen2.5-1.5B")
        others: dict[str, Settings] = {"small": small, "middle": HUB["1.5B"]}
        for name, words in others.items():
            found[f"no_stage1_{name}"] = Arm([judged(None, "language_model", words)], f"no stage 1, {name} decoder")
        half, part = {"model.queries": 32}, reconstruct({"data.train.init_args.last": 1800})
        found["queries_half"] = Arm(
            [redraw(reconstruct(half), {**coco, **half})], "redrawn from embeddings: 32 queries"
        )
        found["images_half"] = Arm([redraw(part, {})], "redrawn from embeddings: 18 of the 40 million images")
    return found


RECIPE = Recipe(
    title="Vision-Language-Vision Auto-Encoder: Scalable Knowledge Distillation from Diffusion Models",
    modality="image captioning",
    arms=arms,
    downloads=(
        Download(
            name="LAION-2B-en-aesthetic's images for stage 1, or a part of them",
            path="$DATA_ROOT/laion_aesthetic",
            source="huggingface.co/datasets/laion/laion2B-en-aesthetic (links; fetch with img2dataset), filtered as in "
            "section 4.1: shorter side above 512, aspect ratio 0.5 to 2, watermark probability below 0.5",
            gigabytes=None,
            licence="CC BY 4.0 for the links; the images are their owners'",
            layout="train/*.tar, val/*.tar as img2dataset writes them: <key>.jpg and <key>.txt; 10,000 a tar",
        ),
        Download(
            name="captioned pictures for stage 2: the paper's 6 million, captioned by Gemini 2.0 Flash, or a part",
            path="$DATA_ROOT/vlv_pairs",
            source="huggingface.co/datasets/ccvl/LAION-High-Qualtiy-Pro-6M-VLV (spelled so)",
            gigabytes=None,
            licence="see the data set's card",
            layout="parquet files, at any depth, with columns `image` and `caption`; the first is for validation",
        ),
        Download(
            name="COCO, validation pictures of 2014 and of 2017, the latter for Table 4 alone",
            path="$DATA_ROOT/coco",
            source="cocodataset.org: 2014 and 2017 Val images, 2014 and 2017 Train/Val annotations",
            gigabytes=8,
            licence="annotations CC BY 4.0, images under their Flickr licences",
            layout="val2014/*.jpg, val2017/*.jpg, annotations/captions_val2014.json, annotations/captions_val2017.json",
        ),
        INCEPTION,
    ),
    disk=400,
    stand_ins="projects.vlv.harness.rehearsal:make",
    gpu="a100-80g",
    plan="projects.vlv.harness.plan:workload",
)
