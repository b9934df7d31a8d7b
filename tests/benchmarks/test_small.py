"""SCALE=small: what it fetches, what it says before, and that results name the weights and data they rest on."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import constants
from rich.console import Console

from benchmarks import reproduce
from benchmarks.running import fetching, origins, preflight, recipes, results
from common.errors import UserError
from common.recipe import Download, HubModel, Recipe, Small
from tests.benchmarks.demo import RECIPE, finish, request

MODEL = HubModel("org/model", 0.09, "Apache-2.0")
DATA = Download(
    "Sentences", "$DATA_ROOT", "example.org", 0.0005, "CC0", "train.tsv", hub="org/sentences", files=("*.tsv",)
)
OTHER = Download("Comments", "$DATA_ROOT", "example.org", 0.004, "CC BY 4.0", "all.tsv", files=("all.tsv",))
SMALL = Small((MODEL,), DATA, {"comments": OTHER})
SAID = """fetching: org/model, 0.09 GB, Apache-2.0
fetching org/sentences: Sentences, 0.5 MB, CC0
"""


def place(root: Path, kind: str, hub_id: str, files: dict[str, str]) -> None:
    """Put a repository into the hub's cache."""
    repository = root / "hub" / f"{kind}--{hub_id.replace('/', '--')}"
    for name, content in {"refs/main": "abc", **{f"snapshots/abc/{k}": v for k, v in files.items()}}.items():
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        (repository / name).write_text(content)


def place_model(root: Path, weights: str = "w") -> None:
    place(root, "models", MODEL.id, {"config.json": "{}", "model.safetensors": weights})


def place_data(root: Path, text: str = "t") -> None:
    place(root, "datasets", DATA.hub, {"train.tsv": text, "README.md": "of no concern"})


@pytest.fixture
def small(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The demonstration project with a small scale, an empty cache of the hub, and a hub that gives what is asked."""

    def download(hub_id: str, repo_type: str = "model", allow_patterns: Any = None) -> None:
        (place_data if repo_type == "dataset" else place_model)(project)

    have_small(monkeypatch, SMALL)
    monkeypatch.delenv("DATA_ROOT", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(project / "hub"))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    for stage in ("train", "evaluate"):
        config = project / f"projects/demo/configs/small/{stage}.yaml"
        config.parent.mkdir(exist_ok=True)
        config.write_text("{}\n")
    teacher = project / "common/foundations/configs/small/teacher.yaml"
    teacher.parent.mkdir()
    teacher.write_text("{}\n")
    page = project / "papers/demo.yaml"
    page.write_text(page.read_text().replace("scales: [mini, paper]", "scales: [mini, small, paper]"))
    return project


def have_small(monkeypatch: pytest.MonkeyPatch, wanted: Small | None) -> None:
    recipe = replace(RECIPE, small=wanted)
    monkeypatch.setattr(recipes, "load", lambda paper: recipe)


def fetch(root: Path, data: str = "") -> str:
    console = Console(record=True, width=200)
    fetching.fetch(SMALL, request(root, scale="small", data=data), console)
    return console.export_text()


def fingerprints(root: Path, **settings: Any) -> set[str]:
    wanted = request(root, scale="small", **settings)
    return {job.fingerprint for job in recipes.unique(recipes.jobs(wanted, preflight.environment(wanted)))}


def test_what_is_fetched_is_said_before_with_its_size_and_licence(small, monkeypatch):
    assert fetch(small) == SAID
    assert origins.snapshot(MODEL.id) and preflight.os.environ["DATA_ROOT"].endswith("snapshots/abc")
    monkeypatch.delenv("DATA_ROOT")
    again = fetch(small)
    assert again.startswith("in the cache: org/model, 0.09 GB, Apache-2.0\n") and "fetching" not in again


def test_only_what_is_read_is_fetched(small, monkeypatch):
    asked: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda hub_id, **given: asked.append((hub_id, given)))
    with pytest.raises(UserError, match="org/sentences holds none of"):
        fetch(small)
    assert asked[0] == ("org/model", {"allow_patterns": list(origins.FETCHED)})
    assert asked[1] == ("org/sentences", {"repo_type": "dataset", "allow_patterns": ["*.tsv"]})


def test_data_of_the_user_s_are_read_where_they_are(small, monkeypatch, tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own/train.tsv").write_text("mine")
    monkeypatch.setenv("DATA_ROOT", str(tmp_path / "own"))
    said = fetch(small)
    assert f"{tmp_path / 'own'}: Sentences, 0.5 MB, CC0" in said and origins.snapshot(DATA.hub, "datasets") is None
    assert preflight.environment(request(small, scale="small"))["DATA_ROOT"] == str(tmp_path / "own")


def test_everything_that_cannot_be_had_is_said_at_once(small, monkeypatch, capsys):
    def fails(*_: Any, **__: Any) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fails)
    assert reproduce.main(["demo", "--scale", "small"]) == 2
    said = capsys.readouterr().err
    for part in ("demo at SCALE=small lacks", "'org/model'", "the hub does not answer", "make weights",
                 "'org/sentences'", "give DATA_ROOT=<folder> with train.tsv, from example.org"):  # fmt: skip
        assert part in said
    assert not (small / "runs").exists()


def test_data_without_a_place_on_the_hub_have_to_be_given(small, capsys):
    place_model(small)
    assert reproduce.main(["demo", "--scale", "small", "--data", "comments"]) == 2
    assert "Comments (4 MB, CC BY 4.0): give DATA_ROOT=<folder> with all.tsv" in capsys.readouterr().err


def test_stages_follow_from_the_content_of_weights_and_data(small):
    found = []
    for weights, text in (("w", "t"), ("w", "u"), ("v", "t")):
        place_model(small, weights)
        place_data(small, text)
        found.append(fingerprints(small))
    assert not found[0] & found[1] and not found[0] & found[2] and not found[1] & found[2]
    place_model(small, "w")
    place(small, "datasets", DATA.hub, {"README.md": "another one"})
    assert fingerprints(small) == found[0]  # by its content, not by its date; what is not read does not count


def test_stages_run_with_what_is_in_the_cache_alone(small):
    place_model(small)
    place_data(small)
    variables = preflight.environment(request(small, scale="small"))
    assert variables["HF_HUB_OFFLINE"] == "1" and variables["DATA_ROOT"].endswith("snapshots/abc")
    assert preflight.environment(request(small)) == {}


def test_a_run_ends_with_results_that_name_weights_and_data(small, capsys):
    assert reproduce.main(["demo", "--scale", "small", "--seeds", "1", "--jobs", "1"]) == 0
    assert "fetching: org/model" in capsys.readouterr().out
    found = results.read(small / "runs/demo/small/results.json")
    assert found and set(found["origins"]) == {"weights", "data"} and found["scale"] == "small"
    digest = "50e721e49c013f00c62cf59f2163542a9d8df02464efeb615d31051b0fddc326"  # of "w"
    assert found["origins"]["weights"] == {"org/model/model.safetensors": f"sha256 {digest}"}
    assert found["origins"]["data"]["Sentences"].endswith(" of 1 files")
    page = (small / "reports/demo.small.html").read_text()
    assert digest in page and "Small pretrained models on public data" in page
    assert reproduce.main(["demo", "--scale", "small", "--seeds", "1"]) == 0
    assert "0 stages run" in capsys.readouterr().out


def test_weights_out_of_a_package_are_named_as_such(small):
    place_model(small)
    note = {"package": "demo==1.0", "differs": "rounded"}
    place(small, "models", MODEL.id, {"origin.json": json.dumps(note)})
    assert origins.origins(SMALL, "")["packages"] == {"org/model": "demo==1.0: rounded"}


def test_results_at_other_scales_are_as_they_were(project):
    jobs = recipes.jobs(request(project))
    for job in recipes.unique(jobs):
        finish(job, accuracy=0.5)
    assert "origins" not in results.collect(request(project), RECIPE.arms("mini"), jobs)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"scale": "small", "data": "coments"}, "did you mean comments"),
        ({"scale": "mini", "data": "comments"}, "unknown data set 'comments': known: photos"),
        ({"scale": "small", "data": "photos"}, "unknown data set 'photos': known: comments"),
        ({"scale": "paper", "data": "comments"}, "DATA=comments goes with SCALE=mini or small"),
    ],
)
def test_each_scale_has_its_own_data_sets(settings, said, small):
    with pytest.raises(UserError, match=said):
        recipes.check(request(small, **settings))


def test_a_recipe_without_the_scale_says_which_have_it(small, monkeypatch):
    known: dict[str, Recipe] = {"demo": replace(RECIPE, small=None), "other": replace(RECIPE, small=SMALL)}
    monkeypatch.setattr(recipes, "load", known.get)
    monkeypatch.setattr(recipes, "names", lambda: list(known))
    with pytest.raises(UserError, match="demo has no SCALE=small; recipes that have: other."):
        recipes.check(request(small, scale="small"))


def test_all_recipes_at_this_scale_are_those_that_have_it(small, monkeypatch):
    known = {"demo": replace(RECIPE, small=None), "other": replace(RECIPE, small=SMALL)}
    asked: list[list[str]] = []
    monkeypatch.setattr(recipes, "load", known.get)
    monkeypatch.setattr(recipes, "names", lambda: list(known))
    monkeypatch.setattr(reproduce.everything, "reproduce_all", lambda papers, *_: asked.append(papers) or 0)
    reproduce.main(["all", "--scale", "small"])
    reproduce.main(["all"])
    assert asked == [["other"], ["demo", "other"]]


@pytest.mark.parametrize(
    ("wanted", "scales", "said"),
    [
        (SMALL, "[mini, paper]", "claim C1: small stands in neither of `scales` and `untested`"),
        (None, "[mini, small, paper]", "claim C1: small is named, and the recipe has no such scale"),
        (SMALL, "[mini, small, paper]", ""),
        (None, "[mini, paper]", ""),
    ],
)
def test_claims_speak_of_the_scale_where_the_recipe_has_it(wanted, scales, said, project, monkeypatch):
    have_small(monkeypatch, wanted)
    page = project / "papers/demo.yaml"
    page.write_text(page.read_text().replace("scales: [mini, paper]", f"scales: {scales}"))
    expected: Callable[[], Any] = lambda: recipes.page("demo")  # noqa: E731
    if said:
        with pytest.raises(UserError, match=said):
            expected()
    else:
        assert expected().claims[0].scales
