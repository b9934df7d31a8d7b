"""MobileSAMv2's configs: understood by their stages, arms that differ in what they say alone, rows with arms."""

import pytest

from benchmarks.running import recipes
from benchmarks.running.recipes import load
from common.recipe import Output, Stage, walk

KINDS = ("boxes", "grid_16", "points_3", "prompt_free", "boxes_tiny", "boxes_efficientvit")


def stages(scale: str) -> dict[str, Stage]:
    arms = load("mobilesamv2").arms(scale)
    found = [arms[arm].stages[-1] for arm in KINDS if arm in arms]
    own = [stage for stage in walk(found) if stage.module.startswith("projects.")]
    return {f"{scale}-{k}-{stage.name}": stage for k, stage in enumerate(own)}


CASES = stages("mini") | stages("paper")


@pytest.mark.parametrize("case", CASES)
def test_a_stage_understands_its_config_and_settings(case, heeded):
    heeded(CASES[case], case.split("-")[0])


def test_photographs_differ_in_data_and_size_alone(read_stage):
    with_photos = load("mobilesamv2").arms_for("mini", "coco")
    stage = with_photos["boxes"].stages[-1]
    assert {s.name for s in walk([stage])} == {"sam", "sam_photos", "detector_masks", "detector_boxes", "everything"}
    plain, photos = (read_stage(stage, "mini", data) for data in ("", "coco"))
    assert photos["data"]["image_size"] == photos["model"]["detector"]["image_size"] == 96
    kept = ("prompts", "confidence", "overlap", "filters", "top")
    assert {key: plain["model"][key] for key in kept} == {key: photos["model"][key] for key in kept}


def test_all_arms_share_data_thresholds_and_decoder():
    """They say how to prompt and with what; nothing of data or amounts."""
    arms = load("mobilesamv2").arms("mini")
    allowed = {"prompts", "masks", "side", "filtered", "sam_weights", "detector_weights", "encoder_weights"}
    allowed |= {"filters.min_stability", "filters.overlap"}  # each its best by validation
    for name, arm in arms.items():
        [stage] = arm.stages
        assert {key.removeprefix("model.") for key in stage.overrides} <= allowed, name
        assert isinstance(stage.overrides["model.sam_weights"], Output)
        assert stage.shared == ("model.detector_weights" not in stage.overrides), name
    assert [name for name, arm in arms.items() if arm.method] == ["boxes"]


def test_the_second_step_of_the_detector_starts_from_the_first(heeded):
    boxes = load("mobilesamv2").arms("mini")["boxes"].stages[-1].overrides["model.detector_weights"].stage
    masks = boxes.overrides["model.weights"].stage
    assert (masks.name, boxes.name) == ("detector_masks", "detector_boxes")
    assert heeded(masks, "mini")["data"]["instances"] > 0 == heeded(boxes, "mini")["data"]["instances"]


def test_scenes_of_training_validation_and_test_do_not_meet(heeded):
    detector = heeded(CASES["mini-0-detector_masks"], "mini")["data"]
    measured = heeded(load("mobilesamv2").arms("mini")["boxes"].stages[-1], "mini")["data"]
    splits = [data["init_args"]["split"] for data in (detector["train"], detector["val"], measured["test"])]
    assert splits == ["train", "val", "test"] and measured["val"]["init_args"]["split"] == "val"


def test_claims_are_the_dossiers_and_rows_name_known_arms():
    page, arms = recipes.page("mobilesamv2"), load("mobilesamv2").arms("paper")
    assert list(dict.fromkeys(claim.id.split("-")[0] for claim in page.claims)) == [f"C{k}" for k in range(1, 8)]
    assert {row.arm for table in page.tables for row in table.rows if row.arm} <= set(arms)
