"""One rule for the paths that people give."""

from pathlib import Path

import pytest

from common.errors import UserError
from common.paths import PROJECT, expand, given_path, runs_folder, user_path


def test_variables_and_the_home_folder_are_replaced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("DATA_ROOT", "/data/a$b c")
    assert expand("$DATA_ROOT/coco") == expand("${DATA_ROOT}/coco") == Path("/data/a$b c/coco")
    monkeypatch.setenv("DATA_ROOT", "~/data")
    assert expand("$DATA_ROOT/coco") == Path("/home/me/data/coco") and expand("~/x") == Path("/home/me/x")


@pytest.mark.parametrize("value", ["", None])
def test_a_variable_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.delenv("DATA_ROOT", raising=False)
    if value is not None:
        monkeypatch.setenv("DATA_ROOT", value)
    with pytest.raises(UserError, match=r"data\.root is '\$DATA_ROOT/x', but DATA_ROOT is not set: pass DATA_ROOT="):
        expand("$DATA_ROOT/x", "data.root")


def test_a_user_s_path_counts_from_the_working_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.chdir(tmp_path)
    assert (
        user_path("~/x") == Path("/home/me/x")
        and user_path("x/y") == tmp_path / "x/y"
        and user_path("/z") == Path("/z")
    )
    assert given_path("x/y") == Path("x/y") and given_path("~/x") == Path("/home/me/x")
    for name in ("~nobody-of-this-name/x", "~nobody-of-this-name"):
        with pytest.raises(UserError, match="no user of that name"):
            given_path(name)
    monkeypatch.setenv("RUNS", "here")
    assert runs_folder() == tmp_path / "here"
    monkeypatch.setenv("RUNS", "")
    assert runs_folder() == PROJECT / "runs"
