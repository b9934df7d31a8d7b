"""LightningCLI with this project's defaults: run folder, resume, checkpoints, W&B, threads, error messages.

    python -m projects.mobilesam.distill fit --config projects/mobilesam/configs/mini/distill.yaml --run_dir runs/mine
    python -m projects.mobilesam.distill fit --help

A run folder makes a stage resumable: the same command continues from its last good checkpoint, and does nothing once
the stage is done. Without `--run_dir` a stage starts afresh in `runs/manual/<module>-<time>`.
"""

import logging
import os
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Literal, NoReturn

import lightning.pytorch as L
import torch
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException
from safetensors import SafetensorError
from safetensors.torch import save_model

from common.errors import UserError
from common.training.callbacks import Cost, NonFiniteGuard, ProgressFile, StopOnSignal
from common.training.checkpoints import CheckpointFile, RandomState, StepCheckpoints, last_good, readable
from common.training.preset import FastPreset, gains_from_bf16
from common.training.runs import disk_error, finish, locked
from common.training.tracking import log_pictures, wandb_logger


class StageCLI(LightningCLI):
    """Runs one stage in its run folder and leaves `weights.safetensors` (after `fit`) and `done.json`.

    A LightningModule may define `exported() -> nn.Module`: the part of itself that later stages load (default: all of
    it). Its `run_dir` is set to the run folder before anything runs.
    """

    def __init__(self, *args: Any, links: Callable[[LightningArgumentParser], None] | None = None, **kwargs: Any):
        self.links = links
        self.started = time.monotonic()
        self.cost = Cost()
        self.run_dir = Path()
        with ExitStack() as self.stack:
            try:
                super().__init__(*args, **kwargs)
            except (OSError, SafetensorError) as error:
                raise disk_error(error, self.run_dir) or error from error

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--run_dir",
            type=str | None,
            default=None,
            help="folder of this run: its outputs, its lock, its checkpoints",
        )
        parser.add_argument(
            "--threads",
            type=int,
            default=0,
            help="CPU threads of torch; 0 leaves torch's choice. Results on CPU depend on it bit by bit",
        )
        parser.add_argument("--checkpoint_every", type=int, default=1000, help="training steps between checkpoints")
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
        super().parse_arguments(parser, args)
        given = self.config.get(f"{self.config.get('subcommand')}.ckpt_path")
        if given and "://" not in given:
            check_checkpoint(Path(given))

    def before_instantiate_classes(self) -> None:
        config = self.config[self.subcommand]
        if config.threads:
            torch.set_num_threads(config.threads)
        if config.preset and config.trainer.precision is None and gains_from_bf16():
            config.trainer.precision = "bf16-mixed"
        self.run_dir = Path(config.run_dir or default_run_dir())
        if first_process():
            self.stack.enter_context(locked(self.run_dir, f"the stage in {self.run_dir}"))
        if (self.run_dir / "done.json").exists():
            say(f"{self.run_dir} is finished; remove the folder to run it again")
            raise SystemExit(0)
        if first_process():
            self._parser(self.subcommand).save(
                config, self.run_dir / "config.yaml", overwrite=True, multifile=False, skip_none=False
            )

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        config = self.config[self.subcommand]
        if config.trainer.get("logger") is None:
            attempt = len(list(self.run_dir.glob("curves/version_*")))
            loggers: list[Any] = [CSVLogger(self.run_dir, "curves", version=attempt, flush_logs_every_n_steps=1)]
            if self.subcommand != "predict" and first_process():
                wandb = self.stack.enter_context(wandb_logger(self.run_dir, config.as_dict()))
                loggers += [wandb] if wandb else []
            kwargs["logger"] = loggers
        trainer = super().instantiate_trainer(default_root_dir=str(self.run_dir), **kwargs)
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = CheckpointFile()
        return trainer

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[L.Callback]) -> L.Trainer:
        folder = self.run_dir / "checkpoints"
        stop = StopOnSignal()
        stop.listen()
        self.checkpoints = StepCheckpoints(folder, self.config[self.subcommand].checkpoint_every, stop.wanted)
        progress = ProgressFile(self.run_dir / "progress.json")
        ours = [RandomState(), NonFiniteGuard(folder), self.cost, progress, stop, self.checkpoints]
        ours += [FastPreset()] if self.config[self.subcommand].preset else []
        return super()._instantiate_trainer(config, [*callbacks, *ours])

    def instantiate_classes(self) -> None:
        super().instantiate_classes()
        self.model.run_dir = self.run_dir

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        kwargs = super()._prepare_subcommand_kwargs(subcommand)
        if subcommand == "fit":
            if kwargs.get("ckpt_path") is None and (good := last_good(self.run_dir / "checkpoints")):
                say(f"continuing from {good}")
                kwargs["ckpt_path"] = str(good)
            kwargs["weights_only"] = True
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
        if self.trainer.is_global_zero:
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
            if isinstance(logger, WandbLogger):
                log_pictures(logger, self.run_dir)
        latest = self.checkpoints.metrics | {
            name: value.item() for name, value in self.trainer.callback_metrics.items()
        }
        metrics = {name.removeprefix(f"{subcommand}/"): value for name, value in latest.items()}
        finish(self.run_dir, metrics, cost, wall=time.monotonic() - self.started)


def default_run_dir() -> str:
    """`runs/manual/<script>-<time>`, the same for all processes of a run.

    Processes that Lightning starts inherit it. Those that torchrun or SLURM started side by side have the job's id
    instead of the time; a requeued job continues in its folder.

    Raises:
        UserError: torchrun was started without an id.
    """
    environment = os.environ
    if "LOCAL_RANK" in environment and "STAGE_RUN_DIR" in environment:
        return environment["STAGE_RUN_DIR"]
    if "TORCHELASTIC_RUN_ID" in environment:
        run = environment["TORCHELASTIC_RUN_ID"]
        if run == "none":
            raise UserError("torchrun gave its processes no common name: add --run_dir, or --standalone to torchrun")
    elif "SLURM_PROCID" in environment and int(environment.get("SLURM_NTASKS", 1)) > 1:
        run = f"{environment['SLURM_JOB_ID']}.{environment.get('SLURM_STEP_ID', 0)}"
    else:
        run = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    environment["STAGE_RUN_DIR"] = folder = f"runs/manual/{Path(sys.argv[0]).stem}-{run}"
    return folder


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
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    for noisy in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    warnings.filterwarnings(
        "ignore",
        message=r".*(does not have many workers|LeafSpec|GPU available but not used|log_every_n_steps|dataloader is not"
        r" resumable|isinstance\(treespec|The `srun` command is available|predict returned None).*",
    )
    try:
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
