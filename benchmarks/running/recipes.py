"""Recipes by name, and the jobs a recipe comes to: every distinct stage and seed, with its command and fingerprint."""

import ast
import hashlib
import importlib
import json
import os
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.judging import tables
from benchmarks.judging.checked import read_yaml
from benchmarks.judging.forms import measures
from benchmarks.running import origins
from common.errors import UserError, unknown
from common.recipe import SCALES, Arm, Download, Output, Recipe, Scale, Stage, walk
from common.training.runs import read_done

ROOT = Path(__file__).resolve().parents[2]
CODE = ("common", "projects")
MOST_SEEDS = 1000
NEAR = 0.7
"""How alike a recipe's name has to be to be suggested; of many names some are a little like any."""


def names() -> list[str]:
    """Every recipe's name."""
    return sorted(path.parent.name for path in (ROOT / "projects").glob("*/recipe.py"))


def load(paper: str) -> Recipe:
    """The recipe of a paper; UserError with the nearest names when there is none."""
    if paper not in names():
        raise unknown("paper", paper, get_close_matches(paper, names(), cutoff=NEAR) or names())
    return importlib.import_module(f"projects.{paper}.recipe").RECIPE


def on_gpus(paper: str, scale: Scale) -> bool:
    """Whether a recipe wants GPUs at a scale."""
    return scale == "paper" and not load(paper).paper_on_cpu


def arm_names(paper: str) -> list[str]:
    """The arms that a recipe has at any scale; UserError where the recipe is broken, however it is."""
    try:
        recipe = load(paper)
        families = [*map(recipe.arms, recipe.scales), *(recipe.arms_for("mini", data) for data in recipe.data)]
        return list(dict.fromkeys(arm for family in families for arm in family))
    except UserError:
        raise
    except Exception as error:  # what is wrong with one recipe must not hide the others
        raise UserError(f"projects/{paper}/recipe.py: {type(error).__name__}: {error}") from error


def page(paper: str) -> tables.Paper:
    """What a paper reports and claims; UserError where its page or its recipe is broken."""
    found, recipe = tables.load_paper(paper, arm_names(paper), tables.PAPERS), load(paper)
    for claim in found.claims:
        if bool(recipe.small) != ("small" in (*claim.scales, *claim.untested)):
            wrong = "stands in neither of `scales` and `untested`" if recipe.small else "is named, and"
            has = "" if recipe.small else " the recipe has no such scale"
            raise UserError(f"{paper}.yaml: claim {claim.id}: small {wrong}{has}")
    for scale in recipe.scales:
        if scale in ("mini", "small"):
            refuse_one_run(found, recipe.arms(scale), scale)
    return found


def refuse_one_run(paper: tables.Paper, arms: Mapping[str, Arm], scale: Scale = "mini") -> None:
    """UserError where a claim is tested on figures of arms whose stages all seeds share, at a scale of many seeds.

    Such figures are one run however many seeds name it: they have no interval, and no number of seeds decides.
    """
    once = {name for name, arm in arms.items() if all(stage.shared for stage in walk(arm.stages))}
    for claim in paper.claims:
        compared = measures(claim.test) if claim.test and scale in claim.scales else []
        varying = [one for one in compared if not paper.metric(one).exact]
        if varying and all(one.arm in once for one in varying):
            raise UserError(
                f"{paper.paper}.yaml: claim {claim.id} is tested on {varying[0].metric} of {varying[0].arm}, which is "
                "one run that all seeds share: no number of seeds could decide it; take an arm that every seed runs, "
                "or a metric that is `exact`"
            )


@dataclass(frozen=True)
class Request:
    """What a user asked for: the variables of `make reproduce`.

    Attributes:
        seeds: how many seeds; their numbers begin at `first_seed`.
        first_seed: above 0 for a pilot, whose results are never a reference.
        auto: seeds are added at each look, for the arms of claims that are not decided yet.
    """

    paper: str
    scale: Scale = "mini"
    seeds: int = 3
    first_seed: int = 0
    auto: bool = False
    arms: tuple[str, ...] = ()
    data: str = ""
    devices: str = ""
    nodes: int = 1
    args: tuple[str, ...] = ()
    runs: Path = Path("runs")

    @property
    def label(self) -> str:
        """`mini`, or `mini-coco` with another data set: names results and run folders."""
        return f"{self.scale}-{self.data}" if self.data else self.scale

    @property
    def pilot(self) -> bool:
        """Whether these seeds only serve to choose settings."""
        return self.first_seed > 0

    @property
    def seed_numbers(self) -> range:
        return range(self.first_seed, self.first_seed + self.seeds)

    @property
    def folder(self) -> Path:
        """Where the recipe's own run folders at this scale are, and what was measured in them."""
        return self.runs / self.paper / self.label


@dataclass(eq=False)
class Job:
    """One stage with one seed: runs once, however many arms share it."""

    stage: Stage
    seed: int
    fingerprint: str
    run_dir: Path
    argv: list[str]
    upstream: list["Job"]
    environment: dict[str, str]
    arms: list[str] = field(default_factory=list)

    @property
    def done(self) -> dict[str, Any] | None:
        """What the finished stage left, None while it is not finished."""
        return read_done(self.run_dir)

    @property
    def foundation(self) -> bool:
        return self.stage.module.startswith("common.foundations.")

    def command(self) -> str:
        """The job as a line for the shell, in the project's folder."""
        variables = [f"{name}={shlex.quote(value)}" for name, value in self.environment.items()]
        return " ".join([*variables, shlex.join(["python", "-m", *self.argv])])

    def portable_command(self) -> str:
        """The command without this machine's folders."""
        runs = str(self.run_dir.parents[3])
        words = [*(f"{name}={value}" for name, value in self.environment.items()), "python", "-m", *self.argv]
        return " ".join(portable(word, runs) for word in words)


def portable(word: str, runs: str) -> str:
    """A word for the shell, in which `runs` stands for the run folders and `<folder>` for any other absolute path."""
    name, equals, value = word.rpartition("=")
    if value.startswith(f"{runs}/"):
        value = f"runs{value[len(runs) :]}"
    return f"{name}{equals}{'<folder>' if Path(value).is_absolute() else shlex.quote(value)}"


def check(request: Request) -> tuple[Recipe, dict[str, Arm]]:
    """The recipe and the arms that were asked for; UserError for a name that does not exist."""
    recipe = load(request.paper)
    if request.scale not in SCALES:
        raise unknown("scale", request.scale, SCALES)
    if request.scale not in recipe.scales:
        others = ", ".join(name for name in names() if request.scale in load(name).scales)
        raise UserError(f"{request.paper} has no SCALE={request.scale}; recipes that have: {others or 'none'}.")
    if request.data and request.scale not in ("mini", "small"):
        raise UserError(
            f"DATA={request.data} goes with SCALE=mini or small; SCALE={request.scale} has the paper's own data."
        )
    if request.data and request.data not in recipe.data_for(request.scale):
        raise unknown("data set", request.data, recipe.data_for(request.scale))
    if request.seeds < 1:
        raise UserError(f"SEEDS={request.seeds}: at least one seed is needed.")
    if request.seeds > MOST_SEEDS:
        raise UserError(f"SEEDS={request.seeds}: {MOST_SEEDS} seeds of an arm at most.")
    arms = recipe.arms_for(request.scale, request.data)
    for arm in request.arms:
        if arm not in arms:
            raise unknown("arm", arm, arms)
    return recipe, {name: arm for name, arm in arms.items() if not request.arms or name in request.arms}


def count(text: str) -> int:
    """A number of an option: 0 or more. For argparse, which says the rest."""
    if (number := int(text)) < 0:
        raise ValueError
    return number


def jobs(request: Request, environment: dict[str, str] | None = None) -> dict[str, dict[int, list[Job]]]:
    """Every arm's jobs by seed, upstream jobs first. Jobs that arms and seeds share are the same object."""
    recipe, arms = check(request)
    made: dict[tuple[str, int], Job] = {}
    digests: dict[Stage, str] = {}
    if request.scale == "rehearsal":
        data = stand_in_digest(recipe)
    elif request.scale == "paper":
        data = _data_digest(recipe.downloads)
    elif recipe.small and request.scale == "small":
        data = json.dumps(origins.origins(recipe.small, request.data), sort_keys=True)
    else:
        data = _data_digest([recipe.data[request.data]]) if request.data else ""
    expanded: dict[str, dict[int, list[Job]]] = {}
    for name, arm in arms.items():
        expanded[name] = {}
        for seed in request.seed_numbers:
            chain = []
            by_stage: dict[Stage, Job] = {}
            for stage in walk(arm.stages):
                if stage not in digests:
                    digests[stage] = _fingerprint(stage, request, digests, data if _reads(stage, request) else "")
                digest = digests[stage]
                own_seed = 0 if stage.shared else seed
                job = made.get((digest, own_seed))
                if job is None:
                    job = _job(stage, own_seed, digest, request, by_stage, environment or {})
                    made[digest, own_seed] = job
                if name not in job.arms:
                    job.arms.append(name)
                by_stage[stage] = job
                if job not in chain:  # two stages of the same settings are one job
                    chain.append(job)
            expanded[name][seed] = chain
    return expanded


def unique(expanded: dict[str, dict[int, list[Job]]]) -> list[Job]:
    """All jobs in an order in which they can run: seed by seed, so that the first seed of every arm comes first."""
    seeds = sorted({seed for arm in expanded.values() for seed in arm})
    return list(dict.fromkeys(job for seed in seeds for arm in expanded.values() for job in arm.get(seed, [])))


def _job(
    stage: Stage, seed: int, digest: str, request: Request, known: dict[Stage, Job], environment: dict[str, str]
) -> Job:
    """The job of a stage; `known` are those of the stages before it, of which equal ones have the same."""
    group = (
        Path("foundations", request.scale)
        if stage.module.startswith("common.foundations.")
        else Path(request.paper, request.label)
    )
    run_dir = request.runs / group / f"{stage.name}-{digest}" / f"seed{seed}"
    argv = [stage.module, stage.run]
    for config in configs(stage, request.scale, request.data):
        argv += ["--config", str(config.relative_to(ROOT))]
    argv += ["--seed_everything", str(seed)]
    for key, value in stage.overrides.items():
        if isinstance(value, Output):
            value = known[value.stage].run_dir / value.file
        text = value if isinstance(value, str) else str(value) if isinstance(value, Path) else json.dumps(value)
        argv += [f"--{key}", text]
    argv += [
        *(["--trainer.devices", request.devices] if request.devices else []),
        *(["--trainer.num_nodes", str(request.nodes)] if request.nodes > 1 else []),
        *_scale_arguments(stage, request),
        *request.args,
    ]
    upstream = list(dict.fromkeys(known[before] for before in stage.upstream()))
    return Job(stage, seed, digest, run_dir, [*argv, "--run_dir", str(run_dir)], upstream, environment)


def _scale_arguments(stage: Stage, request: Request) -> list[str]:
    if request.scale != "rehearsal":
        return []
    steps = {"max_steps": 2, "val_check_interval": 1, "limit_val_batches": 1, "log_every_n_steps": 1}
    settings = {"accelerator": "cpu", "devices": 1, "num_nodes": 1} | {
        "fit": steps,
        "test": {"limit_test_batches": 2},
    }.get(stage.run, {})
    arguments = [word for name, value in settings.items() for word in (f"--trainer.{name}", str(value))]
    return ["--threads", "1", *arguments, *(["--checkpoint_every", "1"] if stage.run == "fit" else [])]


def configs(stage: Stage, scale: Scale, data: str = "") -> list[Path]:
    """A stage's config files, later ones on top of earlier ones; UserError where its own does not exist."""
    files = [ROOT / path for path in stage.config(scale, data)]
    own = next(path for path in files if path.stem == stage.name)
    if not own.exists():
        raise UserError(f"stage {stage.name} of {stage.module.split('.')[1]} has no config {own.relative_to(ROOT)}")
    return [path for path in files if path.exists()]


def settings(stage: Stage, scale: Scale, data: str = "") -> dict[str, Any]:
    """What a stage's config files say together, before its overrides."""
    merged: dict[str, Any] = {}
    for path in configs(stage, scale, data):
        _merge(merged, read_config(path))
    return merged


def read_config(file: Path) -> dict[str, Any]:
    """A config's settings, none where there is nothing but remarks in it; UserError where it is no YAML mapping."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror or error}") from error
    return read_yaml(file).raw if any(line.strip()[:1] not in (b"", b"#") for line in content.splitlines()) else {}


def _merge(below: dict[str, Any], above: dict[str, Any]) -> None:
    """Put a config on top of another, as jsonargparse does: another class starts without the arguments of the first."""
    if "class_path" in above and above["class_path"] != below.get("class_path"):
        below.clear()
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(below.get(key), dict):
            _merge(below[key], value)
        else:
            below[key] = value


def _fingerprint(stage: Stage, request: Request, digests: dict[Stage, str], data: str) -> str:
    """Digest of what a stage's outputs follow from, but the seed: config, code, upstream stages, scale, arguments."""
    contents = [read_config(path) for path in configs(stage, request.scale, request.data)]
    given = [word.split("=", 1)[-1] for word in request.args]
    modules = [stage.module, *_class_paths([contents, dict(stage.overrides), given])]
    overrides = {
        key: f"{digests[value.stage]}/{value.file}" if isinstance(value, Output) else value
        for key, value in stage.overrides.items()
    }
    content = [
        stage.run,
        stage.module,
        contents,
        overrides,
        request.scale,
        request.devices if request.nodes == 1 else [request.devices, request.nodes],
        [*request.args, *_scale_arguments(stage, request)],
        data,
        _code_digest(modules),
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:10]


def _reads(stage: Stage, request: Request) -> bool:
    """Whether a stage depends on the user's data; a mini foundation that names none is the same with and without."""
    foundation = request.scale == "mini" and stage.module.startswith("common.foundations.")
    return not foundation or any(
        "$DATA_ROOT" in path.read_text(encoding="utf-8") for path in configs(stage, request.scale, request.data)
    )


def _class_paths(config: Any) -> Iterator[str]:
    """Modules of this project that a config names (`class_path: common.data.worlds.shapes.ShapeScenes`)."""
    if isinstance(config, dict):
        for value in config.values():
            yield from _class_paths(value)
    elif isinstance(config, list):
        for value in config:
            yield from _class_paths(value)
    elif isinstance(config, str) and config.split(".")[0] in CODE:
        yield config


def stand_in_digest(recipe: Recipe) -> str:
    """Names the folder of a recipe's stand-ins: other code, other stand-ins."""
    return _code_digest([recipe.stand_ins.split(":")[0]])[:10]


def _code_digest(modules: list[str]) -> str:
    digest = hashlib.sha256()
    for path in sorted(set().union(*(sources(module) for module in modules))):
        digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


@cache
def _imports(path: Path) -> frozenset[str]:
    """Project modules that a source file names in its import statements, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_bytes(), filename=str(path))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = path.relative_to(ROOT).parts[: -node.level] if node.level else ()
            module = ".".join([*package, *([node.module] if node.module else [])])
            found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return frozenset(name for name in found if name.split(".")[0] in CODE)


def sources(module: str) -> frozenset[Path]:
    """The project's source files that importing `module` executes, itself and parent packages included."""
    found: set[Path] = set()
    waiting = [module]
    while waiting:
        parts = waiting.pop().split(".")
        for length in range(1, len(parts) + 1):
            base = ROOT.joinpath(*parts[:length])
            path = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
            if path.exists() and path not in found:
                found.add(path)
                waiting += _imports(path)
    return frozenset(found)


def _data_digest(downloads: Iterable[Download]) -> str:
    """Names and sizes of downloaded files: other data, other results. Readers' indices beside tars do not count."""
    listing = []
    for download in downloads:
        path = Path(os.path.expandvars(download.path))
        files = path.rglob("*") if path.is_dir() else [path]
        listing += sorted(
            (str(file.relative_to(path)), file.stat().st_size)
            for file in files
            if file.is_file() and not file.name.endswith(".index.npz")
        )
    return hashlib.sha256(json.dumps(listing).encode()).hexdigest()
