"""Reports: self-contained, escaped, the same for the same results, readable on every screen."""

import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks import report
from benchmarks.judging.tables import Paper
from benchmarks.running import recipes, results
from benchmarks.showing import page
from benchmarks.showing.charts import Line, interval_chart, line_chart, ticks
from common.errors import UserError
from common.training.runs import save_axis, save_picture

BROWSER = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--allow-file-access-from-files", "--dump-dom"),
]
EVIL = "<script>alert(1)</script>\"'><img src=x>"


class Elements(HTMLParser):
    """Every start tag with its attributes, and the text."""

    def __init__(self, html: str):
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.found)


@pytest.fixture
def paper() -> Paper:
    return recipes.page("mobilesam")


@pytest.fixture
def found(paper: Paper) -> dict[str, Any]:
    """Results of every arm with three seeds, one claim of each status."""
    rng = np.random.default_rng(0)
    arms = {}
    for name, arm in recipes.load("mobilesam").arms("mini").items():
        stages = [
            {"stage": stage, "module": f"projects.mobilesam.{stage}", "fingerprint": f"{stage}{name}", "seconds": 75.2,
             "command": f"python -m projects.mobilesam.{stage} fit --run_dir runs/{stage}"}
            for stage in ("distill", "evaluate")
        ]  # fmt: skip
        seeds = {str(seed): {metric: float(rng.uniform()) for metric in paper.metrics} for seed in range(3)}
        arms[name] = {
            "method": arm.method,
            "description": arm.description,
            "fingerprint": f"evaluate{name}",
            "stages": stages,
            "seeds": seeds,
        }
    tested = [claim.id for claim in paper.claims if "mini" in claim.scales]
    verdicts = []
    for claim in paper.claims:
        verdict: dict[str, Any] = {"claim": claim.id, "status": "untested", "reason": "no arm"}
        verdict |= dict.fromkeys(("estimate", "low", "high"))
        if claim.id in tested:
            number = tested.index(claim.id)
            status = ("confirmed", "refuted", "inconclusive")[number % 3]
            verdict |= {"status": status, "reason": f"because {number}", "estimate": 0.1, "low": 0.05, "high": 0.2}
        verdicts.append(verdict)
    return {
        "paper": "mobilesam",
        "scale": "mini",
        "data": "default",
        "created": "2025-01-02T03:04:05Z",
        "command": "make reproduce PAPER=mobilesam",
        "versions": {"torch": "2.11.0"},
        "hardware": {"cpu": "some", "cores": 2},
        "stage_seconds": 4000.0,
        "arms": arms,
        "verdicts": verdicts,
    }


@pytest.fixture
def runs(tmp_path: Path, found: dict[str, Any]) -> Path:
    """Run folders with curves of three seeds and pictures of one, for every arm."""
    for number, arm in enumerate(found["arms"]):
        for seed in range(3):
            folder = tmp_path / "runs" / "mobilesam" / "mini" / f"distill-distill{arm}" / f"seed{seed}"
            (folder / "curves" / "version_0").mkdir(parents=True)
            rows = [f"0,{step},{1 / (step + number + seed)}" for step in range(1, 400, 3)]
            (folder / "curves" / "version_0" / "metrics.csv").write_text(
                "\n".join(["epoch,step,train/loss", *rows]) + "\n"
            )
        folder = tmp_path / "runs" / "mobilesam" / "mini" / f"evaluate-evaluate{arm}" / "seed0"
        picture = np.full((64, 64, 3), 20 * number, np.uint8)
        save_picture(folder, "image 1", picture, f"masks of {arm}")
        save_picture(folder, "image 1, prompts", picture, "the prompts", reference=True)
    return tmp_path / "runs"


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Results and reports of this test alone; returns the reports' folder."""
    monkeypatch.setattr(report, "REPORTS", tmp_path / "reports")
    monkeypatch.setattr(results, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(results, "judged", lambda found, paper: found)
    monkeypatch.setenv("RUNS", str(tmp_path / "runs"))
    (tmp_path / "results").mkdir()
    return tmp_path / "reports"


def make(found: dict[str, Any], paper: Paper) -> str:
    """The page, made as `make reproduce` makes it: from a results file that was written before."""
    (results.RESULTS / f"mobilesam.{page.label(found)}.json").write_text(json.dumps(found))
    return report.make_report(found, paper, Path(os.environ["RUNS"])).read_text()


def test_page_shows_claims_figures_curves_pictures_and_commands(
    found: dict[str, Any], paper: Paper, runs: Path
) -> None:
    html = make(found, paper)
    order = ["Claims", "Measured", "Reported by the paper", "Learning curves", "Pictures", "Run it again"]
    positions = [html.index(f">{title}</h2>") for title in order]
    assert positions == sorted(positions)
    for text in (
        *[claim.id for claim in paper.claims],
        *found["arms"],
        "because 1",
        "Table 2 (paper)",
        "0.7057",
        "632 M",
    ):
        assert text in html
    elements = Elements(html)
    for stage in found["arms"]["decoupled"]["stages"]:
        assert f"\n{stage['command']}\n" in elements.text
    charts = [attributes for tag, attributes in elements.found if tag == "svg" and attributes.get("class") == "chart"]
    assert len(charts) == 1 and "decoupled ends at" in (charts[0]["aria-label"] or "")
    assert html.count("<polyline") == len(found["arms"]) and html.count("<polygon") == len(found["arms"])
    assert elements.count("img") == len(found["arms"]) + 1  # the prompts once
    assert html.index("the prompts") < html.index("masks of teacher")


def test_a_run_says_what_runs_along_a_curve_s_axis(found: dict[str, Any], paper: Paper, runs: Path) -> None:
    for file in runs.rglob("metrics.csv"):
        save_axis(file.parents[2], ["train/loss"], "calls < 9")
    html = make(found, paper)
    assert ">calls &lt; 9</text>" in html and ">step</text>" not in html


def test_wide_pictures_keep_their_size_and_narrow_ones_share_a_row(
    found: dict[str, Any], paper: Paper, runs: Path
) -> None:
    folder = next(runs.glob("mobilesam/mini/evaluate-evaluatedecoupled/seed0"))
    save_picture(folder, "a chart with words", np.zeros((40, 500, 3), np.uint8), "a chart")
    html = make(found, paper)
    assert html.count('style="width: 500px"') == html.count('style="width: ') == 1


def test_page_is_self_contained_and_runs_no_script(
    found: dict[str, Any], paper: Paper, runs: Path, folders: Path
) -> None:
    make(found, paper)
    for file in folders.glob("*.html"):
        html = file.read_text()
        for tag, attributes in Elements(html).found:
            assert tag not in ("script", "link", "iframe", "object")
            assert (attributes.get("src") or "data:").startswith("data:")
            assert not any(name.startswith("on") for name in attributes)
            if tag != "a":
                assert "href" not in attributes
        assert "@import" not in html and "url(" not in html
        assert "default-src 'none'" in html


def test_everything_is_escaped(found: dict[str, Any], paper: Paper, runs: Path) -> None:
    clean = Elements(make(found, paper))
    text = json.dumps(found).replace("because", json.dumps(EVIL)[1:-1])
    evil = json.loads(text)
    evil["arms"][EVIL] = {**evil["arms"].pop("coupled"), "description": EVIL}
    evil["command"] = evil["versions"]["torch"] = evil["hardware"]["cpu"] = EVIL
    for stage in evil["arms"][EVIL]["stages"]:
        stage["command"] = EVIL
    for metrics in evil["arms"]["decoupled"]["seeds"].values():
        metrics[EVIL] = 1.0
    for index in runs.rglob("index.json"):
        entries = json.loads(index.read_text())
        index.write_text(json.dumps([{**entry, "caption": EVIL} for entry in entries]))
    for csv in runs.rglob("metrics.csv"):
        csv.write_text(csv.read_text().replace("train/loss", "<script>loss"))
    fields = {"title": EVIL, "authors": EVIL, "summary": EVIL, "short_title": EVIL, "licence": EVIL, "arxiv": EVIL}
    html = make(evil, Paper(**{**vars(paper), **fields}))
    assert "&lt;script&gt;" in html
    dirty = Elements(html)
    assert dirty.count("script") == 0 and dirty.count("img") == clean.count("img")


def test_equal_results_make_an_equal_page(found: dict[str, Any], paper: Paper, runs: Path, folders: Path) -> None:
    first = make(found, paper)
    shutil.rmtree(folders)
    assert make(found, paper) == first


def test_without_run_folders_the_page_says_so(found: dict[str, Any], paper: Paper) -> None:
    html = make(found, paper)
    assert "No curves" in html and "No pictures" in html and "0.7057" in html


def confirmed(found: dict[str, Any]) -> str:
    """How the index counts the confirmed claims."""
    return f"{sum(verdict['status'] == 'confirmed' for verdict in found['verdicts'])} confirmed"


def test_pages_of_a_paper_link_to_each_other_and_the_index_counts_verdicts(
    found: dict[str, Any], paper: Paper, runs: Path, folders: Path
) -> None:
    make(found, paper)
    assert 'href="mobilesam.mini-coco.html"' in make({**found, "data": "coco"}, paper)
    assert 'href="mobilesam.mini-coco.html"' in (folders / "mobilesam.mini.html").read_text()
    index = (folders / "index.html").read_text()
    assert index.index("mobilesam.mini.html") < index.index("mobilesam.mini-coco.html")
    assert len(re.findall(confirmed(found), index)) == 2


def test_a_row_of_the_index_is_the_reference_and_yours_where_all_verdicts_are_the_same(
    found: dict[str, Any], paper: Paper, runs: Path, folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *others = found["verdicts"]
    changed = {**first, "status": "refuted" if first["status"] == "confirmed" else "confirmed"}
    for verdicts, whose in (
        (found["verdicts"], ["reference; yours agree"]),
        ([changed, *others], ["reference", "yours"]),
    ):
        read = {"reference": found, "yours": {**found, "verdicts": verdicts}}
        monkeypatch.setattr(results, "references", lambda _: {"mini": Path("reference")})
        monkeypatch.setattr(results, "own", lambda *_: {"mini": Path("yours")})
        monkeypatch.setattr(results, "read_judged", lambda file, _, read=read: read[str(file)])
        assert [row["whose"] for row in report.index_rows(paper, runs)] == whose


def test_a_rehearsal_stands_in_the_index_as_what_it_is(
    found: dict[str, Any], paper: Paper, runs: Path, folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipes, "names", lambda: ["mobilesam"])
    rehearsed = {**found, "scale": "rehearsal"}
    rehearsed["verdicts"] = [{**verdict, "status": "untested"} for verdict in found["verdicts"]]
    report.make_report(rehearsed, paper, runs)
    index = (folders / "index.html").read_text()
    assert 'href="mobilesam.rehearsal.html"' in index and "no claim is tested" in index
    assert "Measured so far: 0 of 1" in index and "not measured yet" in index
    make(found, paper)
    index = (folders / "index.html").read_text()
    assert "Measured so far: 1 of 1" in index and "not measured yet" not in index
    assert index.index("mobilesam.mini.html") < index.index("mobilesam.rehearsal.html")


@pytest.mark.parametrize("problem", [FileNotFoundError("recipe of broken"), UserError("recipe of broken")])
def test_a_broken_recipe_is_named_in_the_index_and_the_others_stay(
    found: dict[str, Any], paper: Paper, folders: Path, monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    load = recipes.load

    def broken(name: str) -> Any:
        if name == "broken":
            raise problem
        return load(name)

    monkeypatch.setattr(recipes, "names", lambda: ["broken", "mobilesam"])
    monkeypatch.setattr(recipes, "load", broken)
    make(found, paper)
    index = (folders / "index.html").read_text()
    assert "recipe of broken" in index and confirmed(found) in index


def test_a_missing_page_of_one_recipe_is_named_in_the_index(
    found: dict[str, Any], paper: Paper, folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipes, "names", lambda: ["broken", "mobilesam"])
    load = recipes.load
    monkeypatch.setattr(recipes, "load", lambda name: load("mobilesam"))
    make(found, paper)
    index = (folders / "index.html").read_text()
    assert "benchmarks/papers/broken.yaml does not exist" in index and confirmed(found) in index
    assert str(recipes.ROOT) not in index


def test_command_line_renders_again(
    found: dict[str, Any], paper: Paper, runs: Path, folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    html = make(found, paper)
    shutil.rmtree(folders)
    assert report.main(["mobilesam"]) == 0
    assert (folders / "mobilesam.mini.html").read_text() == html and (folders / "index.html").exists()
    assert report.main(["mobilsam"]) == 2
    assert "did you mean mobilesam" in capsys.readouterr().err


def test_command_line_says_what_to_do_without_results(capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main(["mobilesam"]) == 2
    assert "make reproduce PAPER=mobilesam" in capsys.readouterr().err


def test_measured_figure_stands_once_in_a_row_whose_columns_share_a_metric(found: dict[str, Any], paper: Paper) -> None:
    table = next(table for table in paper.tables if table.id == "two_points")
    shared = tuple(replace(column, metric="miou_teacher_two_points") for column in table.columns)
    row = page.reported_table(replace(table, columns=shared), found, paper)["rows"][1]
    assert [cell["reported"] for cell in row["cells"]] == ["0.73", "0.71", "0.74", "0.73", "0.73"]
    assert not any(cell["measured"] for cell in row["cells"]) and len(row["measured"]) == 1


def test_unknown_figures_are_shown_as_unknown(found: dict[str, Any], paper: Paper) -> None:
    table = paper.tables[0]
    row = type(table.rows[0])("a row", (None,) * len(table.columns))
    unknown = type(table)(**{**vars(table), "rows": (row,)})
    html = make(found, Paper(**{**vars(paper), "tables": (unknown,)}))
    assert html.count('<span class="unknown">unknown</span>') == len(table.columns)


def test_large_pictures_are_packed_and_a_page_stays_small(
    found: dict[str, Any], runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = runs / "mobilesam" / "mini" / "evaluate-evaluatedecoupled" / "seed0"
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    save_picture(folder, "noise", noise, "noise")
    rows, left_out, _ = page.picture_rows(found, runs)
    packed = rows[-1]["pictures"][0]["uri"]
    assert packed.startswith("data:image/webp") and len(packed) < noise.size / 2 and left_out == 0
    monkeypatch.setattr(page, "PICTURE_BYTES", len(packed))
    rows, left_out, _ = page.picture_rows(found, runs)
    assert [row["key"] for row in rows] == ["image 1"] and left_out == 1


def test_animations_and_sounds_are_embedded(found: dict[str, Any], paper: Paper, runs: Path) -> None:
    folder = runs / "mobilesam" / "mini" / "evaluate-evaluatedecoupled" / "seed0" / "pictures"
    Image.new("RGB", (8, 8)).save(folder / "a.gif")
    (folder / "b.wav").write_bytes(b"RIFF")
    entries = json.loads((folder / "index.json").read_text())
    added = [{"key": name, "file": name, "caption": name, "reference": False} for name in ("a.gif", "b.wav")]
    (folder / "index.json").write_text(json.dumps(entries + added))
    html = make(found, paper)
    assert (
        'src="data:image/gif;base64,' in html and '<audio controls preload="none" src="data:audio/wav;base64,' in html
    )


def test_ticks_are_round_and_inside() -> None:
    assert ticks(0, 1, 5) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    assert ticks(-0.013, 0.004, 4) == pytest.approx([-0.01, -0.005, 0])
    assert ticks(3e6, 9e6, 3) == pytest.approx([4e6, 6e6, 8e6])


def points(chart: str) -> list[list[tuple[float, float]]]:
    """Coordinates of a chart's lines."""
    found = re.findall(r'<polyline[^>]* points="([^"]+)"', chart)
    return [[tuple(map(float, pair.split(","))) for pair in line.split()] for line in found]  # type: ignore[misc]


def test_lines_are_means_over_seeds_and_long_ones_are_thinned() -> None:
    seeds = [[(step, value) for step in range(0, 1001)] for value in (1.0, 3.0)]
    (line,) = points(line_chart([Line("a", 0, seeds)], "loss"))
    assert 60 <= len(line) <= 120
    (middle,) = {y for _, y in line}
    flat = points(line_chart([Line("a", 0, [seeds[0], seeds[1]]), Line("b", 1, [[(0, 2.0), (1000, 2.0)]])], "loss"))
    assert {y for _, y in flat[0]} == {y for _, y in flat[1]} == {middle}


def test_wide_ranges_are_logarithmic_and_degenerate_series_do_not_fail() -> None:
    (line,) = points(line_chart([Line("a", 0, [[(0, 1.0), (1, 0.1), (2, 0.01)]])], "loss"))
    assert line[1][1] - line[0][1] == pytest.approx(line[2][1] - line[1][1], abs=0.2)
    assert points(line_chart([Line("a", 0, [[(5, 0.0), (5, 0.0)]])], "loss"))
    assert line_chart([Line("a", 0, [[(0, float("nan")), (1, float("inf"))]])], "loss") == ""


def test_interval_chart_shades_the_claimed_side() -> None:
    chart = interval_chart(0.1, 0.05, 0.2, (0.0, float("inf")), "confirmed", "difference")
    (start, width) = re.search(r'class="claimed" x="([\d.]+)" y="\d+" width="([\d.]+)"', chart).groups()  # type: ignore[union-attr]
    low, high = re.search(r'class="interval" x1="([\d.]+)" x2="([\d.]+)"', chart).groups()  # type: ignore[union-attr]
    assert float(start) < float(low) < float(high) < float(start) + float(width)
    assert chart.count('class="threshold"') == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_headless_browser_shows_every_page_without_sideways_scrolling(
    found: dict[str, Any], paper: Paper, runs: Path, folders: Path, tmp_path: Path, scheme: str
) -> None:
    """Laptop and phone: a frame of each width reports whether its document, all details open, is wider than itself."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium on this machine (Debian: apt-get install chromium)")
    make(found, paper)
    widths = (1280, 390)
    frames = [(file.name, width) for file in sorted(folders.iterdir()) for width in widths]
    script = """
      window.onload = () => { for (const frame of document.querySelectorAll('iframe')) {
        const page = frame.contentDocument.documentElement, body = frame.contentDocument.body;
        for (const details of body.querySelectorAll('details')) details.open = true;
        const colour = frame.contentWindow.getComputedStyle(body).backgroundColor;
        document.getElementById('out').append(
          `[${frame.dataset.name} ${frame.width} ${page.scrollWidth} ${page.scrollHeight} ${colour}]`);
      } };"""
    probe = folders / "probe.html"
    probe.write_text(
        "".join(
            f'<iframe src="{name}" data-name="{name}" width="{width}" height="800"></iframe>' for name, width in frames
        )
        + f"<pre id=out></pre><script>{script}</script>"
    )
    preference = f"--blink-settings=preferredColorScheme={0 if scheme == 'dark' else 1}"
    shown = subprocess.run(
        [chromium, *BROWSER, preference, f"--user-data-dir={tmp_path / 'browser'}", probe.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    )
    measured = re.findall(r"\[(\S+) (\d+) (\d+) (\d+) rgb\((\d+), \d+, \d+\)\]", shown.stdout)
    assert [(name, int(width)) for name, width, *_ in measured] == frames, shown.stderr[-2000:]
    for name, width, full, height, red in measured:
        assert int(full) <= int(width), f"{name} is {full} px wide on a screen of {width}"
        assert int(height) > 300
        assert (int(red) < 60) == (scheme == "dark")
