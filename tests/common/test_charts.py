"""Charts for light and dark pages, drawn without a trace."""

import os
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from common import charts
from common.charts import DARK, LIGHT, Line, bar_chart, heat_map, histogram, line_chart, scatter, side_by_side
from common.training.runs import save_picture, saved_pictures
from common.visual import Themed

STEPS = [1.0, 10.0, 100.0]
LINES = [
    Line(
        STEPS, [0.2, 0.4, 0.5], "student", low=[0.1, 0.3, 0.4], high=[0.3, 0.5, 0.6], words=["a", "b", "c"], dots=True
    ),
    Line(STEPS, [0.3, 0.3, 0.3], "teacher"),
]


def rgb(colour: str) -> np.ndarray:
    return np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)])


def has(picture: np.ndarray, colour: str) -> bool:
    return bool((picture == rgb(colour)).all(-1).any())


@pytest.mark.parametrize(
    "chart",
    [
        line_chart(LINES, "step", "accuracy", "title", log_x=True, ticks={1.0: "first", 100.0: "last"}, mark=10.0),
        bar_chart({"a": [1, 2], "b": [3, -1]}, ["x", "y"], "group", "height"),
        histogram(np.random.default_rng(0).normal(size=(30, 30)), "score"),
        scatter(STEPS, STEPS, "gold", "score"),
        heat_map(np.eye(3), "columns", "rows"),
    ],
    ids=["lines", "bars", "histogram", "scatter", "heat map"],
)
def test_both_themes_have_the_size_asked_for(chart):
    for picture, theme in zip(chart, (LIGHT, DARK), strict=True):
        assert picture.dtype == np.uint8 and picture.shape == (charts.SIZE[1], charts.SIZE[0], 3)
        assert (picture[0, 0] == rgb(theme.paper)).all() and has(picture, theme.ink)


def test_lines_have_their_colours_and_their_bands():
    for picture, theme in zip(line_chart(LINES, "step", "accuracy"), (LIGHT, DARK), strict=True):
        assert has(picture, theme.colours[0]) and has(picture, theme.colours[1])
        bare = line_chart([Line(STEPS, LINES[0].y)], "step", "accuracy")[theme is DARK]
        faint = np.abs(picture - (0.2 * rgb(theme.colours[0]) + 0.8 * rgb(theme.paper))).max(-1) < 2
        assert faint.sum() > 2000 and (np.abs(bare - picture).max() > 0)


def test_what_leaves_the_limits_is_cut_off():
    chart = line_chart([Line([0, 1], [0, 1e6]), Line([0, 1], [float("nan"), 1.0])], "x", "y", limits=(0, 2))
    assert chart.light.shape == (300, 460, 3)


def test_a_heat_map_is_the_paper_at_zero_and_strongest_at_one():
    for picture, theme in zip(heat_map(np.array([[0.0, 1.0], [1.0, 0.0]]), "", ""), (LIGHT, DARK), strict=True):
        height, width = picture.shape[:2]
        quarters = picture[height // 4, width // 3], picture[height // 4, 3 * width // 4]
        assert (quarters[0] == rgb(theme.map[0])).all() and (quarters[1] == rgb(theme.map[1])).all()


def test_panels_stand_in_a_row():
    panel = scatter(STEPS, STEPS, "gold", "score", size=(200, 180))
    assert [p.shape for p in side_by_side(panel, panel, panel)] == [(180, 600, 3)] * 2


def test_settings_of_matplotlib_and_its_backend_stay_as_they_are():
    before = dict(matplotlib.rcParams)
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red"}):  # what the user likes does not show here
        ours = scatter(STEPS, STEPS, "gold", "score")
    assert dict(matplotlib.rcParams) == before
    assert np.array_equal(ours.light, scatter(STEPS, STEPS, "gold", "score").light)


def test_nothing_is_written_into_the_home_folder(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    code = "from common.charts import scatter; import matplotlib.pyplot; scatter([1], [1], 'x', 'y')"
    clean = {name: value for name, value in os.environ.items() if name not in ("MPLCONFIGDIR", "XDG_CACHE_HOME")}
    environment = clean | {"HOME": str(home), "TMPDIR": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=120)
    assert not list(home.iterdir()) and list(tmp_path.glob("matplotlib-*"))


def test_matplotlib_is_not_imported_before_something_is_drawn():
    code = "import sys, common.charts; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_a_chart_is_kept_with_its_dark_twin(tmp_path: Path):
    light, dark = np.full((2, 3, 3), 250, np.uint8), np.full((2, 3, 3), 9, np.uint8)
    save_picture(tmp_path, "loss", Themed(light, dark), "caption")
    save_picture(tmp_path, "photo", light, "caption")
    chart, photo = saved_pictures(tmp_path)
    assert photo["dark"] is None and chart["dark"].name == "000-dark.png"
    assert [int(np.asarray(Image.open(chart[kind])).max()) for kind in ("file", "dark")] == [250, 9]
    save_picture(tmp_path, "loss", light, "caption")  # now without a twin
    assert saved_pictures(tmp_path)[0]["dark"] is None
