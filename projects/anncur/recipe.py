"""ANNCUR: which arms are compared, and the stages each of them consists of."""

from common.recipe import Arm, Download, Recipe, Scale, Stage


def arms(scale: Scale) -> dict[str, Arm]:
    """The same stages at every scale. Cross-encoders and DE_BASE do not know the searched domain, and have no seed.

    A seed draws the anchor queries and items, and trains the dual encoders that are distilled in the searched domain.
    """
    train, score = "projects.anncur.train", "projects.anncur.score"
    dual = Stage("dual_encoder", train, shared=True)
    miner = {"model.dual_encoder_weights": dual.weights}

    def scores(name: str, cross: Stage) -> Stage:
        return Stage(name, score, {"model.weights": cross.weights}, run="predict", shared=True)

    emb = Stage("emb_cross_encoder", train, miner, shared=True)
    cls = Stage("cls_cross_encoder", train, miner, shared=True)
    emb_scores, cls_scores = scores("emb_scores", emb), scores("cls_scores", cls)
    item_scores = scores("item_scores", emb)

    def distil(name: str, **start: object) -> Stage:
        settings = {"model.scores": emb_scores.output("scores"), **start}
        return Stage(name, "projects.anncur.distill", settings)

    def evaluate(method: str, matrix: Stage = emb_scores, **settings: object) -> list[Stage]:
        overrides = {"model.method": method, "model.scores": matrix.output("scores"), **settings}
        return [Stage("evaluate", "projects.anncur.evaluate", overrides, run="test")]

    def dual_encoder(stage: Stage) -> list[Stage]:
        return evaluate("dual_encoder", **{"model.dual_encoder_weights": stage.weights})

    items = {"model.item_scores": item_scores.output("scores")}
    from_base = {"model.dual_encoder_weights": dual.weights}
    return {
        "anncur": Arm(evaluate("anncur", **{"model.explore": True}), "half of the calls for anchor items", method=True),
        "anncur_best_split": Arm(
            evaluate("anncur", **{"model.anchor_share": None}), "the best of nine splits, chosen on the test queries"
        ),
        "anncur_truncated": Arm(
            evaluate("anncur", **{"model.rcond": 0.01, "model.explore": True}),
            "ours: singular values below 1 % of the largest are dropped",
        ),
        "anncur_cls": Arm(
            evaluate("anncur", cls_scores, **{"model.explore": True}), "ANNCUR for the cross-encoder with a [CLS] head"
        ),
        "oracle": Arm(evaluate("oracle"), "CUR with the best possible U, from all scores: a bound"),
        "item_cur": Arm(evaluate("item_cur", **items), "CUR with anchor items in place of anchor queries"),
        "fixed_items": Arm(evaluate("fixed_items", **items), "scores against fixed items as embeddings"),
        "de_base": Arm(dual_encoder(dual), "the dual encoder that never saw the domain"),
        "de_base_match": Arm(dual_encoder(distil("distill_match", **from_base)), "distilled from it, match loss"),
        "de_base_triplet": Arm(dual_encoder(distil("distill_triplet", **from_base)), "distilled from it, triplet loss"),
        "de_bert_match": Arm(dual_encoder(distil("distill_bert")), "distilled from a BERT, match loss"),
        "tf_idf": Arm(evaluate("tf_idf"), "words in common"),
        "random": Arm(evaluate("random"), "random items: the lower bound"),
    }


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
    ),
    disk=10,
    stand_ins="projects.anncur.harness.rehearsal:make",
    gpu="a100-80g",
    plan="projects.anncur.harness.plan:workload",
)
