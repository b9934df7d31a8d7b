"""VLV: which arms are compared, and the stages each of them consists of."""

from common.recipe import Arm, Download, Recipe, Scale, Stage

T2I = Stage("glyph_text_to_image", "common.foundations.text_to_image", shared=True)
QUERIES = {"mini": (8, 4, 2), "paper": (77, 32, 16)}  # N_q: all positions of the text encoder, and fewer (Table 4)
IMAGES = {  # of stage 1: fewer of them (Table 5); at paper scale 600 tars of 10,000 make 6 of the 40 million
    "mini": {"data.train.init_args.size": 200},
    "paper": {"data.train.init_args.last": 600},
}
SMALL = {"hidden": 32, "layers": 1}  # the mini scale's smaller decoder
SMALL_HUB = {"model.language_model": "Qwen/Qwen2.5-0.5B"}
RATES = {"adapter": 4e-3, "language_model": 1e-3, "encoder": 1e-3}  # of stage 2 at mini scale, by what learns
PAIRS = (64, 1024)  # captioned pictures of stage 2 at mini scale, beside the default of 256

Settings = dict[str, object]


def arms(scale: Scale) -> dict[str, Arm]:
    """At mini scale diffusion and language model are trained on the world; else they are the hub's.

    A rehearsal runs every config once: arms that differ in a number or a name alone share their stages there.
    """
    mini, rehearsal = scale == "mini", scale == "rehearsal"

    def vary(settings: Settings) -> Settings:
        return {} if rehearsal else settings

    def language(**sizes: object) -> Settings:
        settings = {f"model.{name}": value for name, value in sizes.items()}
        stage = Stage("language", "projects.vlv.language", settings, shared=True)
        return {"model.language_model": stage.output("model")}

    drawing: Settings = {"model.text_to_image": T2I.output("model")} if mini else {}
    decoder = language() if mini else {}
    small = language(**SMALL) if mini else vary(SMALL_HUB)
    full, half, few = QUERIES["mini" if mini else "paper"]

    def reconstruct(settings: Settings) -> Stage:
        return Stage("reconstruct", "projects.vlv.reconstruct", {**drawing, **settings})

    def redraw(stage: Stage, settings: Settings) -> Stage:
        given = {**drawing, **settings, "model.weights": stage.weights}
        return Stage("redraw", "projects.vlv.redraw", given, run="test")

    def describe(start: Stage | None, unfrozen: str, words: Settings, pairs: int | None = None) -> Stage:
        given = {**drawing, **words, **vary({"model.unfrozen": unfrozen})}
        if start := stage1 if rehearsal else start:
            given["model.encoder_weights"] = start.weights
        given |= {"data.pairs": pairs} if pairs else {}
        given |= {"model.lr": RATES[unfrozen]} if mini else {}
        return Stage("describe", "projects.vlv.describe", given)

    def judged(
        start: Stage | None, unfrozen: str = "encoder", words: Settings = decoder, pairs: int | None = None
    ) -> Stage:
        given = {**drawing, **words, "model.weights": describe(start, unfrozen, words, pairs).weights}
        return Stage("evaluate", "projects.vlv.evaluate", given, run="test")

    stage1 = reconstruct({})
    fewer = {"half": vary({"model.queries": half}), "few": vary({"model.queries": few})}
    images = reconstruct(vary(IMAGES["mini" if mini else "paper"]))
    own = {**drawing, **decoder, "model.captions": "data"}
    found = {
        "vlv": Arm([judged(stage1)], "stage 1, then psi, language model and encoder learn from pairs", method=True),
        "frozen": Arm([judged(stage1, "language_model")], "the encoder stays as stage 1 left it"),
        "psi_only": Arm([judged(stage1, "adapter")], "encoder and language model stay, psi alone learns from pairs"),
        "no_stage1": Arm([judged(None, "language_model")], "no stage 1, and the encoder stays as it began"),
        "no_stage1_trainable": Arm([judged(None)], "no stage 1, but psi, language model and encoder learn from pairs"),
        "decoder_small": Arm([judged(stage1, words=small)], "the method with a smaller language model"),
        "captions": Arm(
            [Stage("evaluate", "projects.vlv.evaluate", own, run="test", shared=True)], "the data's own captions"
        ),
        "queries": Arm([redraw(stage1, {})], f"redrawn from embeddings: {full} queries, all images"),
        "queries_half": Arm(
            [redraw(reconstruct(fewer["half"]), fewer["half"])], f"redrawn from embeddings: {half} queries"
        ),
        "queries_few": Arm(
            [redraw(reconstruct(fewer["few"]), fewer["few"])], f"redrawn from embeddings: {few} queries"
        ),
        "images_few": Arm([redraw(images, {})], "redrawn from embeddings: a small part of the images in stage 1"),
    }
    if mini:
        for pairs in PAIRS:
            found[f"vlv_{pairs}"] = Arm([judged(stage1, pairs=pairs)], f"the method with {pairs} pairs")
            found[f"no_stage1_trainable_{pairs}"] = Arm([judged(None, pairs=pairs)], "the same without stage 1")
    elif not rehearsal:
        middle: Settings = {"model.language_model": "Qwen/Qwen2.5-1.5B"}
        found["decoder_middle"] = Arm([judged(stage1, words=middle)], "the method with Qwen2.5-1.5B")
        for name, words in {"small": small, "middle": middle}.items():
            found[f"no_stage1_{name}"] = Arm([judged(None, "language_model", words)], f"no stage 1, {name} decoder")
        part = reconstruct({"data.train.init_args.last": 1800})
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
            layout="train/*.tar, val/*.tar: <key>.jpg and <key>.txt, the caption",
        ),
        Download(
            name="COCO 2014, validation",
            path="$DATA_ROOT/coco",
            source="cocodataset.org: 2014 Val images, 2014 Train/Val annotations",
            gigabytes=7,
            licence="annotations CC BY 4.0, images under their Flickr licences",
            layout="val2014/*.jpg, annotations/captions_val2014.json",
        ),
        Download(
            name="Inception for FID",
            path="$WEIGHTS_ROOT/pt_inception-2015-12-05-6726825d.pth",
            source="github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
            gigabytes=0.09,
            licence="Apache-2.0",
        ),
    ),
    disk=400,
    stand_ins="projects.vlv.harness.rehearsal:make",
    gpu="a100-80g",
    plan="projects.vlv.harness.plan:workload",
)
