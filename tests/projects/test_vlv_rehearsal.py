"""VLV's paper configs, run on stand-ins from the first stage to the table."""

from tests.projects.rehearsing import rehearse


def test_every_stage_runs_resumes_and_ends_in_the_table(tmp_path, request, capsys):
    # arms that differ in a number share their stages here; evaluated are the captioner, the released one and the data's
    # captions; pictures of COCO 2014 and 2017 are drawn again
    found = rehearse("vlv", tmp_path, request, capsys, {"reconstruct": 1, "describe": 1}, {"redraw": 2, "evaluate": 3})
    assert found.shown.count("in two processes") == 2
    assert {"train/loss", "val/own", "val/shuffled"} <= set(found.metrics("reconstruct")[0])
    assert {"train/loss", "val/loss"} <= set(found.metrics("describe")[0])
    redrawn = {"loss_own", "loss_shuffled", "redrawn_fid_1", "redrawn_fid_2"}
    assert redrawn <= set(found.metrics("redraw")[0])
    assert all({"fid_1", "fid_2", "captions_cut"} <= set(metrics) for metrics in found.metrics("evaluate"))
    for arm in ("vlv", "frozen", "no_stage1", "captions", "queries_few", "released"):
        assert f"\n{arm} " in found.shown  # its row of the table
