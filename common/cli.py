"""LightningCLI with this project's defaults: run folder, resume, checkpoints, W&B, threads, error messages.

    python -m projects.mobilesam.distill fit --config projects/mobilesam/configs/mini/distill.yaml --run_dir runs/mine
    python -m projects.mobilesam.distill fit --help

A run folder makes a stage resumable: the same command continues from its last good checkpoint, and does nothing once
the stage is done. Without `--run_dir` a stage starts afresh in `manual/<module>-<time>` of the folder of runs.
"""

import hashlib
import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack, suppress
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NoReturn
from urllib.parse import urlsplit
from urllib.request import url2pathname

import lightning.pytorch as L
import torch
import yaml
from jsonargparse.typing import NonNegativeInt, PositiveInt
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException
from safetensors import SafetensorError
from safetensors.torch import save_model

from common import help, interrupts
from common.console import tolerant_console
from common.data.files import write_atomic
from common.errors import UserError
from common.paths import given_path, runs_folder, user_path
from common.rehearsal.owned import keep_to
from common.training.callbacks import Cost, NonFiniteGuard, ProgressFile, StopOnSignal
from common.training.checkpoints import (
    KEPT,
    CheckpointFile,
    RandomState,
    StepCheckpoints,
    failed_while_restoring,
    last_good,
    readable,
    unfit_checkpoint,
)
from common.training.preset import FastPreset, gains_from_bf16
from common.training.runs import disk_error, finish, locked, read_done, read_settings
from common.training.tracking import Tracker, wandb_logger

NOT_SETTINGS = {"run_dir", "config", "ckpt_path", "trainer.enable_progress_bar", "trainer.default_root_dir"}
LISTED = 5
SETTINGS_ARE_READ = (
    "lightning.pytorch.trainer.connectors",
    "lightning.pytorch.loops.fit_loop",
    "lightning.pytorch.accelerators",
    "lightning.fabric.accelerators",
    "lightning.fabric.utilities.device_parser",
    "lightning.fabric.plugins.environments",
)
"""Lightning's modules that refuse a trainer's settings, or what a cluster says, with Python's plain errors."""


class StageCLI(LightningCLI):
    """Runs one stage in its run folder and leaves `weights.safetensors` (after `fit`) and `done.json`.

    A LightningModule may define `exported() -> nn.Module`: the part of itself that later stages load (default: all of
    it). Its `run_dir` is set to the run folder before anything runs.
    """

    def __init__(
        self,
        model: type[L.LightningModule],
        data: type[L.LightningDataModule],
        args: list[str] | None = None,
        links: Callable[[LightningArgumentParser], None] | None = None,
        **kwargs: Any,
    ):
        self.words = sys.argv[1:] if args is None else args
        self.links = links
        self.started = time.monotonic()
        self.cost = Cost()
        self.run_dir = Path()
        self.trial = False
        """Whether Lightning's `fast_dev_run` only tries whether everything runs: nothing is kept then."""
        self.refused: UserError | None = None
        """What a class raised while the classes were made; cleared once all of them are."""
        self.resumed = ""
        """The checkpoint that the run starts from."""
        with ExitStack() as self.stack:
            try:
                super().__init__(model, data, args=args, **kwargs)
            except (OSError, SafetensorError) as error:
                raise self._users_error(error) or disk_error(error, self.run_dir) or error from error
            except Exception as error:
                raise self._users_error(error) or error from error

    def _users_error(self, error: BaseException) -> UserError | None:
        """The error that a user can mend behind another: jsonargparse wraps what classes raise, unions most of all."""
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, UserError):
                return cause
            cause = cause.__cause__
        if self.refused is not None:
            return self.refused
        if self.resumed and failed_while_restoring(error):
            return unfit_checkpoint(self.resumed, error)
        if refused_by_lightning(error):
            return UserError(f"these settings do not go together: {' '.join(str(error).split())}")
        return None

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """All of Lightning's, or the one that the command line begins with: building a parser takes 0.1 s."""
        known = LightningCLI.subcommands()
        first = self.words[0] if self.words else ""
        return {first: known[first]} if first in known else known

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--run_dir",
            type=str | None,
            default=None,
            help="folder of this run: its outputs, its lock, its checkpoints",
        )
        parser.add_argument(
            "--threads",
            type=NonNegativeInt,
            default=0,
            help="CPU threads of torch; 0 leaves torch's choice. Results on CPU depend on it bit by bit",
        )
        parser.add_argument(
            "--checkpoint_every", type=PositiveInt, default=1000, help="training steps between checkpoints"
        )
        parser.add_argument(
            "--preset",
            type=Literal["fast"] | None,
            default=None,
            help="fast: bf16 where the device gains from it, channels-last convolutions, compiled networks in long "
            "runs, frozen ones in inference mode (common/training/preset.py)",
        )
        if self.links:
            self.links(parser)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        for file in configs_in(self.words):
            read_settings(file)
        super().parse_arguments(parser, args)
        config = self.config[self.config.subcommand]
        check_numbers(config)
        if config.get("ckpt_path"):
            config.ckpt_path = given_checkpoint(config.ckpt_path, config.run_dir)

    def _parse_ckpt_path(self) -> None:
        """Take no settings from a checkpoint: the command line and its configs have them all."""

    def before_instantiate_classes(self) -> None:
        self.parser.add_instantiator(self._make, object, subclasses=True)
        config = self.config[self.subcommand]
        self.trial = bool(config.trainer.fast_dev_run)
        if config.threads:
            torch.set_num_threads(config.threads)
        if config.preset and config.trainer.precision is None and gains_from_bf16():
            config.trainer.precision = "bf16-mixed"
        self.run_dir = given_path(config.run_dir) if config.run_dir else default_run_dir()
        if first_process():
            self.stack.enter_context(locked(self.run_dir, f"the stage in {self.run_dir}"))
        config.run_dir = str(self.run_dir)
        text = self._parser(self.subcommand).dump(config, skip_none=False)
        self.settings = settings(str(self.subcommand), yaml.safe_load(text))
        if (done := read_done(self.run_dir)) is not None:
            check_settings(self.run_dir, done, self.settings)
            say(f"{self.run_dir} is finished; remove the folder to run it again")
            raise SystemExit(0)
        if first_process() and not self.trial:
            write_atomic(self.run_dir / "config.yaml", text.encode())

    def _make(self, kind: type, /, *args: Any, **kwargs: Any) -> Any:
        """Make a class of the config, and remember what it tells the user."""
        try:
            return kind(*args, **kwargs)
        except UserError as error:
            self.refused = error
            raise

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        config = self.config[self.subcommand]
        if config.trainer.get("logger") is None:
            attempt = len(list(self.run_dir.glob("curves/version_*")))
            loggers: list[Any] = [CSVLogger(self.run_dir, "curves", version=attempt, flush_logs_every_n_steps=1)]
            if self.subcommand != "predict" and first_process() and not self.trial:
                wandb = self.stack.enter_context(wandb_logger(self.run_dir, config.as_dict()))
                loggers += [wandb] if wandb else []
            kwargs["logger"] = loggers
        trainer = super().instantiate_trainer(default_root_dir=str(self.run_dir), **kwargs)
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = CheckpointFile(resuming=self.subcommand == "fit")
        return trainer

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[L.Callback]) -> L.Trainer:
        folder = self.run_dir / "checkpoints"
        stop = StopOnSignal()
        stop.listen()
        self.checkpoints = StepCheckpoints(folder, self.config[self.subcommand].checkpoint_every, stop.wanted)
        progress = ProgressFile(self.run_dir / "progress.json")
        ours: list[L.Callback] = [RandomState(), NonFiniteGuard(folder), self.cost, progress, stop]
        ours += [] if self.trial else [self.checkpoints]
        ours += [FastPreset()] if self.config[self.subcommand].preset else []
        return super()._instantiate_trainer(config, [*callbacks, *ours])

    def instantiate_classes(self) -> None:
        super().instantiate_classes()
        self.refused = None
        self.model.run_dir = self.run_dir

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        kwargs = super()._prepare_subcommand_kwargs(subcommand)
        continues = subcommand == "fit" and not self.trial and kwargs.get("ckpt_path") is None
        if continues and (good := last_good(self.run_dir / "checkpoints")):
            say(f"continuing from {good}")
            kwargs["ckpt_path"] = str(good)
        kwargs["weights_only"] = True
        self.resumed = kwargs.get("ckpt_path") or ""
        if subcommand == "predict":
            kwargs["return_predictions"] = False
        return kwargs

    def _run_subcommand(self, subcommand: str) -> None:
        try:
            super()._run_subcommand(subcommand)
        except SystemExit as end:
            if not self.trainer.interrupted:
                raise
            say("interrupted; with this run folder the same command goes on from the last checkpoint")
            raise SystemExit(143 if isinstance(end, SIGTERMException) else 130) from None
        if self.trial:
            say("fast_dev_run has tried what it could; nothing was kept")
        elif self.trainer.is_global_zero:
            self._conclude(subcommand)

    def _conclude(self, subcommand: str) -> None:
        """Write what the stage leaves behind."""
        cost = self.cost.total()
        if subcommand == "fit":
            exported = self.model.exported() if hasattr(self.model, "exported") else self.model
            temporary = self.run_dir / ".weights.safetensors"
            try:
                save_model(exported, str(temporary))
                os.replace(temporary, self.run_dir / "weights.safetensors")
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
        else:
            cost["seconds"] = time.monotonic() - self.started
        for logger in self.trainer.loggers:
            if isinstance(logger, Tracker):
                logger.log_pictures(self.run_dir)
        latest = self.checkpoints.metrics | {
            name: value.item() for name, value in self.trainer.callback_metrics.items()
        }
        metrics = {name.removeprefix(f"{subcommand}/"): value for name, value in latest.items()}
        wall, cpu = time.monotonic() - self.started, self.cost.cpu_seconds()
        finish(self.run_dir, metrics, cost, wall, cpu, named(self.settings))


def configs_in(words: list[str]) -> list[Path]:
    """The files that a command line names with `--config`, those that are there."""
    given = [after for word, after in pairwise([*words, ""]) if word == "--config"]
    given += [word.removeprefix("--config=") for word in words if word.startswith("--config=")]
    paths = [Path(os.path.expanduser(name)) for name in given if len(name) < 4096 and "\n" not in name]
    return [path for path in paths if path.is_file()]


def check_numbers(config: Any) -> None:
    """UserError for settings that Lightning takes and then fails on, or that leave no run folder to continue."""
    trainer, seed = config.trainer, config.get("seed_everything")
    if trainer.get("barebones"):
        raise UserError("--trainer.barebones leaves out the checkpoints and logs of a stage: leave it out")
    if trainer.get("enable_checkpointing") is False:
        raise UserError(
            "--trainer.enable_checkpointing=false: a stage keeps checkpoints; --checkpoint_every says how often"
        )
    for name in ("accumulate_grad_batches", "check_val_every_n_epoch"):
        value = trainer.get(name)
        if value is not None and value < 1:
            raise UserError(f"--trainer.{name}={value}: at least 1 is needed")
    if seed is not None and not isinstance(seed, bool) and not 0 <= seed < 2**32:
        raise UserError(f"--seed_everything={seed}: seeds are whole numbers from 0 to {2**32 - 1}")


def refused_by_lightning(error: BaseException) -> bool:
    """Whether the trainer's settings were refused, by what Lightning raises where it looks at them."""
    if isinstance(error, MisconfigurationException):
        return True
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    module = str(place.tb_frame.f_globals.get("__name__")) if place is not None else ""
    return isinstance(error, ValueError | TypeError | RuntimeError) and module.startswith(SETTINGS_ARE_READ)


def default_run_dir() -> Path:
    """`manual/<script>-<time>` in the folder of runs, the same for all processes of a run.

    Processes that Lightning starts inherit it. Those that torchrun or SLURM started side by side have the job's id
    instead of the time; a requeued job continues in its folder.

    Raises:
        UserError: torchrun was started without an id.
    """
    environment = os.environ
    if "LOCAL_RANK" in environment and "STAGE_RUN_DIR" in environment:
        return Path(environment["STAGE_RUN_DIR"])
    if "TORCHELASTIC_RUN_ID" in environment:
        run = environment["TORCHELASTIC_RUN_ID"]
        if run == "none":
            raise UserError("torchrun gave its processes no common name: add --run_dir, or --standalone to torchrun")
    elif "SLURM_PROCID" in environment and environment.get("SLURM_NTASKS", "1") != "1":
        run = f"{environment['SLURM_JOB_ID']}.{environment.get('SLURM_STEP_ID', 0)}"
    else:
        run = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    folder = runs_folder() / "manual" / f"{Path(sys.argv[0]).stem}-{run}"
    environment["STAGE_RUN_DIR"] = str(folder)
    return folder


def settings(subcommand: str, config: dict[str, Any]) -> dict[str, Any]:
    """What a stage's outputs follow from, flat: `model.lr`, ...; without where it runs and what it shows."""
    found: dict[str, Any] = {"subcommand": subcommand}

    def flatten(prefix: str, value: Any) -> None:
        if isinstance(value, dict) and value:
            for key, inner in value.items():
                flatten(f"{prefix}.{key}" if prefix else str(key), inner)
        elif prefix not in NOT_SETTINGS:
            found[prefix] = value

    flatten("", config)
    return found


def named(found: dict[str, Any]) -> str:
    """A name for a stage's settings: the subcommand, and a digest."""
    digest = hashlib.sha256(json.dumps(found, sort_keys=True, default=str).encode()).hexdigest()
    return f"{found['subcommand']}-{digest[:16]}"


def check_settings(run_dir: Path, done: dict[str, Any], now: dict[str, Any]) -> None:
    """UserError where a finished folder's settings are not those of this command."""
    known = done.get("settings")
    if known is None or known == named(now):
        return
    try:
        before = settings(str(known).split("-")[0], read_settings(run_dir / "config.yaml"))
    except UserError:
        before = {"subcommand": ""}
    if named(before) == known:
        keys = [key for key in sorted(before.keys() | now.keys()) if before.get(key) != now.get(key)]
        listed = [f"{key} was {shown(before.get(key))}, now {shown(now.get(key))}" for key in keys[:LISTED]]
        what = "; ".join(listed) + (f"; ... ({len(keys)} in all)" if len(keys) > LISTED else "")
    else:
        what = "which ones differ cannot be said, for its config.yaml is not what it was"
    raise UserError(
        f"{run_dir} is finished, with other settings: {what}. Give another --run_dir, or remove the folder to run it "
        "anew."
    )


def shown(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def given_checkpoint(given: str, run_dir: str | None) -> str:
    """What a user's `--ckpt_path` stands for: a file, a file's URL, `last`, or what Lightning itself fetches.

    Raises:
        UserError: there is no such checkpoint, it cannot be read, or no stage keeps such a one.
    """
    folder = given_path(run_dir) if run_dir else None
    if given == "last":
        if folder and (good := last_good(folder / "checkpoints")):
            return str(good)
        raise UserError(
            f"--ckpt_path last: there is no checkpoint in {folder / 'checkpoints' if folder else 'a new run folder'}; "
            "give the --run_dir of a run that has one, or a file"
        )
    if given == "hpc" and folder and any(folder.glob("hpc_ckpt_*.ckpt")):
        return given
    if given in ("best", "hpc"):
        raise UserError(
            f"--ckpt_path {given}: stages keep their {KEPT} newest checkpoints, and none of that name. Give `last`, "
            "a file of <run folder>/checkpoints, or leave it out: a run folder is continued by itself"
        )
    if given.startswith("registry"):
        if find_spec("litmodels") is None:
            raise UserError(
                f"--ckpt_path {given}: Lightning's model registry needs the package litmodels (pip install)"
            )
        return given
    if given.startswith("file:"):
        given = url2pathname(urlsplit(given).path)
    if "://" in given:
        return given
    path = user_path(given)
    check_checkpoint(path)
    return str(path)


def check_checkpoint(path: Path) -> None:
    """UserError unless there is a readable checkpoint (a sharded one is a folder, which Lightning checks itself)."""
    if not path.exists():
        raise UserError(f"no checkpoint at {path}: correct --ckpt_path, or leave it out to start or continue the run")
    if path.is_file() and not readable(path):
        raise UserError(f"{path} is truncated or not a checkpoint; give another one as --ckpt_path")


def first_process() -> bool:
    """Whether this is the first of the processes that Lightning, torchrun or SLURM started together."""
    return rank_zero_only.rank == 0  # type: ignore[attr-defined]


def say(message: str) -> None:
    """Say something once, however many processes run."""
    if first_process():
        print(message, flush=True)


def one_seed(parser: Any) -> None:
    """The `links` of most stages: the data draws with the seed that everything has."""
    parser.link_arguments("seed_everything", "data.seed", compute_fn=int)


def main(
    model: type[L.LightningModule],
    data: type[L.LightningDataModule],
    args: list[str] | None = None,
    links: Callable[[LightningArgumentParser], None] | None = None,
) -> None:
    """Run a training script's command line; a user's error ends it with one message and exit code 2.

    Args:
        args: the command line without the program's name; None takes `sys.argv`.
        links: adds `link_arguments` between model and data.
    """
    tolerant_console()
    interrupts.as_usual()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    for noisy in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    warnings.filterwarnings(
        "ignore",
        message=r".*(does not have many workers|LeafSpec|GPU available but not used|log_every_n_steps|dataloader is not"
        r" resumable|isinstance\(treespec|The `srun` command is available|predict returned None).*",
    )
    try:
        if folder := os.environ.get("STAND_INS"):
            keep_to(Path(folder))
        with help.remember(sys.orig_argv if args is None else []):
            StageCLI(
                model,
                data,
                args=args,
                links=links,
                save_config_callback=None,
                auto_configure_optimizers=False,
                seed_everything_default=0,
                trainer_defaults={
                    "enable_progress_bar": sys.stderr.isatty() and "RUN_LABELS" not in os.environ,
                    "enable_model_summary": False,
                    "use_distributed_sampler": False,
                    "num_sanity_val_steps": 0,
                    "inference_mode": False,  # in it the counter of operations would switch autocast off
                },
                parser_kwargs={"parser_mode": "yaml"},
            )
    except UserError as error:
        _fail(_unwrapped(str(error)))
    except KeyboardInterrupt:  # before training has begun, or after it has ended
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None


def _unwrapped(message: str) -> str:
    """A user's error without the traceback that torch wraps around one from a data loader's process."""
    if message.startswith("Caught UserError in DataLoader worker process"):
        return message.rpartition(f"{UserError.__module__}.UserError: ")[2].rstrip()
    return message


def _fail(message: str) -> NoReturn:
    with suppress(OSError):  # the log may lie on the disk that is full
        print(f"error: {message}", file=sys.stderr, flush=True)
    raise SystemExit(2)
