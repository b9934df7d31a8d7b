"""MobileSAMv2's paper configs, run on stand-ins to the table."""

from tests.projects.rehearsing import rehearse


def test_every_stage_runs_and_ends_in_the_table(tmp_path, request, capsys):
    trained = {"detector_masks": 1, "detector_boxes": 1}
    measured = {"everything": 6, "everything_tiny": 1, "everything_efficientvit": 1}
    rehearse("mobilesamv2", tmp_path, request, capsys, trained, measured)
