"""ANNCUR: which arms are compared, and the stages each of them consists of."""

from common.recipe import Arm, Download, Output, Recipe, Scale, Stage

WEIGHTS = {
    "emb": ("nishantyadav/emb_crossenc_zeshel", "emb_crossenc_zeshel.ckpt", 1.12),
    "cls": ("nishantyadav/cls_crossencoder_zeshel", "cls_crossenc_zeshel.ckpt", 1.12),
    "dual": ("nishantyadav/dual_encoder_zeshel", "dual_encoder_zeshel.ckpt", 2.24),
}
"""What the authors have published: hub id, file, gigabytes."""

DOMAINS = {"pro_wrestling": 0, "star_trek": 0, "doctor_who": 4000, "military": 2400}
"""The paper's other domains, and how many mentions are scored (0: all); of the two largest as many as in the third
party's study, because how many the paper has is not known."""

EXPLORE = {"model.explore": True}


def arms(scale: Scale) -> dict[str, Arm]:
    """At mini scale every seed is an experiment of its own, from the encoders' training to the domain that is searched;
    only the BERT that they all start from is shared. Else BERT is the published one, the encoders that do not know the
    domain are trained once, and a seed draws the anchors and trains the distilled encoders.
    """
    mini = scale == "mini"
    pretrain, train, score = (f"projects.anncur.{script}" for script in ("pretrain", "train", "score"))
    bert: dict[str, object] = {}
    if mini:
        copies = Stage("bert", pretrain, {"data.copies": True, "trainer.max_steps": 1000}, shared=True).output("model")
        pretrained = Stage("bert", pretrain, {"model.start": copies}, shared=True)
        bert = {"model.encoder.pretrained": pretrained.output("model")}
    dual = Stage("dual_encoder", train, bert, shared=not mini)

    def cross_encoder(kind: str) -> Output:
        settings = {**bert, "model.dual_encoder_weights": dual.weights}
        return Stage(f"{kind}_cross_encoder", train, settings, shared=not mini).weights

    def scores(name: str, weights: Output | str, **settings: object) -> Output:
        overrides = {**bert, "model.weights": weights, **settings}
        return Stage(name, score, overrides, run="predict", shared=not mini).output("scores")

    emb = cross_encoder("emb")
    emb_scores, cls_scores = scores("emb_scores", emb), scores("cls_scores", cross_encoder("cls"))

    def evaluate(method: str, matrix: Output = emb_scores, **settings: object) -> list[Stage]:
        overrides = {"model.method": method, "model.scores": matrix, **settings}
        return [Stage("evaluate", "projects.anncur.evaluate", overrides, run="test")]

    def dual_encoder(weights: Output | str, matrix: Output = emb_scores, **settings: object) -> list[Stage]:
        return evaluate("dual_encoder", matrix, **{**bert, "model.dual_encoder_weights": weights, **settings})

    def distilled(name: str, base: bool = True, **settings: object) -> list[Stage]:
        start = {"model.dual_encoder_weights": dual.weights} if base else {}
        overrides = {**bert, **start, "model.scores": emb_scores, **settings}
        return dual_encoder(Stage(name, "projects.anncur.distill", overrides).weights, **settings)

    items = {"model.item_scores": scores("item_scores", emb)}
    found = {
        "anncur": Arm(evaluate("anncur", **EXPLORE), "half of the calls for anchor items", method=True),
        "anncur_best_split": Arm(
            evaluate("anncur", **{"model.anchor_share": None}), "the best of nine splits, chosen on the test queries"
        ),
        "anncur_truncated": Arm(
            evaluate("anncur", **{"model.rcond": 0.01, **EXPLORE}),
            "ours: singular values below 1 % of the largest are dropped",
        ),
        "anncur_cls": Arm(evaluate("anncur", cls_scores, **EXPLORE), "ANNCUR for the cross-encoder with a [CLS] head"),
        "oracle": Arm(evaluate("oracle"), "CUR with the best possible U, from all scores: a bound"),
        "oracle_cls": Arm(evaluate("oracle", cls_scores), "that bound for the cross-encoder with a [CLS] head"),
        "item_cur": Arm(evaluate("item_cur", **items), "CUR with anchor items in place of anchor queries"),
        "fixed_items": Arm(evaluate("fixed_items", **items), "scores against fixed items as embeddings"),
        "fixed_items_uncounted": Arm(
            evaluate("fixed_items_uncounted", **items), "the same with k_q fixed items, whose calls are not counted"
        ),
        "de_base": Arm(dual_encoder(dual.weights), "the dual encoder that never saw the domain"),
        "de_base_match": Arm(distilled("distill_match"), "distilled from it, match loss"),
        "de_base_triplet": Arm(distilled("distill_triplet"), "distilled from it, triplet loss"),
        "de_bert_match": Arm(distilled("distill_bert", base=False), "distilled from a BERT, match loss"),
        "tf_idf": Arm(evaluate("tf_idf"), "words in common"),
        "popular": Arm(evaluate("popular"), "what anchor queries score best, whatever the query: the index's floor"),
        "random": Arm(evaluate("random"), "random items: the lower bound"),
        "de_base_cls": Arm(dual_encoder(dual.weights, cls_scores), "DE_BASE, for the cross-encoder with a [CLS] head"),
    }
    if mini:
        return found

    files = {kind: f"$WEIGHTS_ROOT/{file}" for kind, (_, file, _) in WEIGHTS.items()}
    released = scores("emb_scores", files["emb"])
    found |= {
        "released": Arm(evaluate("anncur", released, **EXPLORE), "ANNCUR for the published [EMB]-CE; no training"),
        "released_cls": Arm(
            evaluate("anncur", scores("cls_scores", files["cls"]), **EXPLORE), "ANNCUR for the published [CLS]-CE"
        ),
        "released_de_base": Arm(dual_encoder(files["dual"], released), "the published DE_BASE, for that [EMB]-CE"),
    }
    if scale == "rehearsal":  # what follows are the same configs with other numbers
        return found
    for k_q in (100, 2000):
        queries = {"data.anchor_queries": k_q}
        found[f"anncur_{k_q}"] = Arm(evaluate("anncur", **queries), f"anncur with {k_q} anchor queries")
        found[f"de_base_match_{k_q}"] = Arm(
            distilled("distill_match", **queries), f"de_base_match with {k_q} anchor queries"
        )
    for domain, mentions in DOMAINS.items():
        there = {"data.search": domain, "data.search_mentions": mentions}
        matrix = scores("emb_scores", files["emb"], **there)
        found[f"released_{domain}"] = Arm(evaluate("anncur", matrix, **there), f"released, in {domain}")
        found[f"released_de_base_{domain}"] = Arm(
            dual_encoder(files["dual"], matrix, **there), f"released_de_base, in {domain}"
        )
        found[f"tf_idf_{domain}"] = Arm(evaluate("tf_idf", matrix, **there), f"tf_idf for released, in {domain}")
    return found


RECIPE = Recipe(
    title="Efficient Nearest Neighbor Search for Cross-Encoder Models using Matrix Factorization (ANNCUR)",
    modality="text retrieval",
    arms=arms,
    downloads=(
        Download(
            name="ZeShEL",
            path="$DATA_ROOT/zeshel",
            source="github.com/lajanugen/zeshel, which links the archive",
            gigabytes=None,
            licence="text of Fandom's wikis, CC BY-SA",
            layout="documents/<world>.json for the 16 worlds, mentions/{train,val,test}.json",
        ),
        *(
            Download(
                name=f"the authors' weights, {file}",
                path=f"$WEIGHTS_ROOT/{file}",
                source=f"{hub} on the Hugging Face hub",
                gigabytes=size,
                licence="Apache-2.0",
            )
            for hub, file, size in WEIGHTS.values()
        ),
    ),
    disk=12,
    stand_ins="projects.anncur.harness.rehearsal:make",
    gpu="a100-80g",
    plan="projects.anncur.harness.plan:workload",
)
