"""What holds for all tests: they write into a folder of their own, and their time on the processor is counted.

Before anything is imported, every variable by which a library finds the user's files leads to a temporary folder. When
all tests have ended, the checkout and the home folder must be as they were before.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path[:0] = [] if str(ROOT) in sys.path else [str(ROOT)]

from benchmarks import report  # noqa: E402
from benchmarks.running import certificates, recipes, results  # noqa: E402
from common.rehearsal.owned import LEADS_ELSEWHERE  # noqa: E402
from tests import budget, untouched  # noqa: E402
from tests.projects.rehearsing import due  # noqa: E402

OWN = {
    "HOME": "home", "RUNS": "runs", "XDG_CACHE_HOME": "home/.cache",
    "XDG_CONFIG_HOME": "home/.config", "XDG_DATA_HOME": "home/.local/share", "XDG_STATE_HOME": "home/.local/state",
    "HF_HOME": "home/.cache/huggingface", "TORCH_HOME": "home/.cache/torch", "MPLCONFIGDIR": "home/.config/matplotlib",
    "WANDB_DIR": "wandb", "WANDB_CACHE_DIR": "wandb/cache", "WANDB_CONFIG_DIR": "wandb/config",
    "WANDB_DATA_DIR": "wandb/data", "NETRC": "home/.netrc",
}  # fmt: skip
"""Variables that the tests have for their own, and where in their folder they lead."""

FOLDERS = ((results, "REPORTS"), (report, "REPORTS"), (results, "RESULTS"), (certificates, "FOLDER"))
"""Where the harness writes and reads in the checkout."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rehearse",
        choices=("due", "all", "none"),
        default="due",
        help="recipes to rehearse: those without a certificate that holds and two more (default), all, none",
    )
    parser.addoption("--budget", action="store_true", help="fail where a recipe's tests or rehearsal take too long")


BEFORE = pytest.StashKey[tuple[Path, dict[str, object]]]()
FOLDER = pytest.StashKey[tuple[Path, pytest.MonkeyPatch]]()
TOUCHED = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # pytest-xdist's workers share the checkout
        home = Path.home()
        config.stash[BEFORE] = (home, untouched.listing(ROOT, home))
    own, patch = Path(tempfile.mkdtemp(prefix="tests-")), pytest.MonkeyPatch()
    config.stash[FOLDER] = (own, patch)
    for name in [name for name in os.environ if LEADS_ELSEWHERE.match(name) and name != "DATA_ROOT"]:
        patch.delenv(name)
    for name, where in OWN.items():
        patch.setenv(name, str(own / where))
        if where != "home/.netrc":
            (own / where).mkdir(parents=True, exist_ok=True)
    for module, name in FOLDERS:
        there: Path = getattr(module, name)
        if name != "REPORTS" and there.exists():  # committed files: tests read them, and write elsewhere
            shutil.copytree(there, own / there.name)
        patch.setattr(module, name, own / there.name)


def pytest_unconfigure(config: pytest.Config) -> None:
    own, patch = config.stash[FOLDER]
    patch.undo()
    shutil.rmtree(own, ignore_errors=True)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    started = budget.processor_seconds()
    item.user_properties.append((budget.STARTED, started))
    yield


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    outcome = yield
    if call.when == "teardown":
        started = dict(item.user_properties)[budget.STARTED]
        outcome.get_result().user_properties = [(budget.TOOK, budget.processor_seconds() - started)]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.getoption("budget"):
        table, over = budget.table(took(config), recipes.names(), certificates.read)
        terminalreporter.section("processor-seconds")
        for line in [*table, *over]:
            terminalreporter.write_line(line, red=line in over)
    for line in rehearsals(terminalreporter):
        terminalreporter.write_line(line)
    for line in config.stash.get(TOUCHED, []):
        terminalreporter.write_line(f"a test (or you, meanwhile) touched what is not its own: {line}", red=True)


def rehearsals(terminalreporter: pytest.TerminalReporter) -> list[str]:
    """Which recipes were rehearsed, and why; which were not, and why not."""
    reports = [one for those in terminalreporter.stats.values() for one in those if getattr(one, "when", "") == "call"]
    those = {one.nodeid: one for one in reports if budget.is_rehearsal(one.nodeid)}
    papers = {name: budget.recipe_of(name, recipes.names()) for name in those}
    why = due() if those else {}
    lines = []
    for name, one in sorted(those.items()):
        if one.skipped:
            lines.append(f"not rehearsed: {papers[name]}: {one.longrepr[2].removeprefix('Skipped: ')}")
        else:
            lines.append(f"rehearsed: {papers[name]}: {why.get(papers[name], 'all were asked for')}")
    return lines


def took(config: pytest.Config) -> list[tuple[str, float]]:
    """Tests by their ids, with the processor-seconds of each, those of other workers included."""
    stats = config.pluginmanager.get_plugin("terminalreporter").stats
    reports = [one for those in stats.values() for one in those if getattr(one, "when", "") == "teardown"]
    return [(one.nodeid, dict(one.user_properties)[budget.TOOK]) for one in reports]


def pytest_sessionfinish(session: pytest.Session) -> None:
    config = session.config
    if BEFORE not in config.stash:
        return
    home, before = config.stash[BEFORE]
    config.stash[TOUCHED] = untouched.changes(before, untouched.listing(ROOT, home))
    over = budget.table(took(config), recipes.names(), certificates.read)[1] if config.getoption("budget") else []
    if (config.stash[TOUCHED] or over) and session.exitstatus == 0:
        session.exitstatus = 1
