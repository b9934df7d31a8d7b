"""LoRA distillation's paper configs, run on stand-ins from the first stage to the table."""

import pytest

from tests.projects.rehearsing import rehearse


@pytest.mark.timeout(900)  # minutes on two busy cores
def test_every_stage_runs_resumes_and_ends_in_the_table(tmp_path, request, capsys):
    found = rehearse("lora_distill", tmp_path, request, capsys, {"distill": 3}, {"pictures": 1, "evaluate": 5})
    for arm in ("guided", "unguided", "lora_4", "full"):
        assert f"\n{arm} " in found.shown  # its row of the table
    metrics = found.metrics("evaluate")
    assert sorted(row["calls"] for row in metrics) == [2, 2, 2, 2, 4]
    for row in metrics:
        assert {"closed", "closed_val", "fd", "paired", "clipscore", "clip_i", "seconds"} <= set(row)
    assert sorted(round(row["closed"], 6) for row in metrics)[-1] == 1  # the guided teacher's
