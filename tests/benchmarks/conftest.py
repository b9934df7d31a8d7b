from pathlib import Path

import pytest

from tests.benchmarks.demo import make_project


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the demonstration project, in which the harness now works."""
    make_project(tmp_path, monkeypatch)
    return tmp_path
