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
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger
from safetensors.torch import save_model

from common.errors import UserError
from common.training.callbacks import Cost, NonFiniteGuard, ProgressFile
from common.training.checkpoints import RandomState, last_good
from common.training.runs import disk_error, finish, locked
from common.training.tracking import wandb_logger


class StageCLI(LightningCLI):
    """Runs one stage in its run folder and leaves `weights.safetensors` (after `fit`) and `done.json`.

    A LightningModule may define `exported() -> nn.Module`: the part of itself that later stages load (default: all of it),
    and `run_dir`: it is set to the run folder before anything runs.
    """

    def __init__(self, *args: Any, links: Callable[[LightningArgumentParser], None] | None = None, **kwargs: Any):
        self.links = links
        self.started = time.monotonic()
        self.cost = Cost()
        self.stack = ExitStack()
        with self.stack:
            super().__init__(*args, **kwargs)

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
        if self.links:
            self.links(parser)

    def before_instantiate_classes(self) -> None:
        config = self.config[self.subcommand]
        if config.threads:
            torch.set_num_threads(config.threads)
        module = type(self).__module__ if self.model_class is None else self.model_class.__module__
        default = f"runs/manual/{module.rsplit('.', 1)[-1]}-{time.strftime('%Y%m%d-%H%M%S')}"
        self.run_dir = Path(config.run_dir or default)
        if int(os.environ.get("LOCAL_RANK", os.environ.get("SLURM_PROCID", 0))) == 0:
            self.stack.enter_context(locked(self.run_dir, f"the stage in {self.run_dir}"))
            if (self.run_dir / "done.json").exists():
                print(f"{self.run_dir} is finished; remove the folder to run it again")
                raise SystemExit(0)
        self._parser(self.subcommand).save(
            config, self.run_dir / "config.yaml", overwrite=True, skip_none=False, skip_check=True
        )

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        config = self.config[self.subcommand]
        if config.trainer.get("logger") is None:
            attempt = len(list(self.run_dir.glob("curves/version_*")))
            loggers: list[Any] = [CSVLogger(self.run_dir, name="curves", version=attempt)]
            if self.subcommand != "predict" and (wandb := wandb_logger(self.run_dir, config.as_dict())):
                loggers.append(wandb)
            kwargs["logger"] = loggers
        return super().instantiate_trainer(default_root_dir=str(self.run_dir), **kwargs)

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[L.Callback]) -> L.Trainer:
        folder = self.run_dir / "checkpoints"
        saving = ModelCheckpoint(
            dirpath=folder,
            filename="{step}",
            monitor="step",
            mode="max",
            save_top_k=2,
            every_n_train_steps=self.config[self.subcommand].checkpoint_every,
            save_on_train_epoch_end=False,
        )
        ours = [RandomState(), NonFiniteGuard(folder), self.cost, ProgressFile(self.run_dir / "progress.json")]
        return super()._instantiate_trainer(
            config, [*callbacks, *ours, *([saving] if self.subcommand == "fit" else [])]
        )

    def instantiate_classes(self) -> None:
        super().instantiate_classes()
        self.model.run_dir = self.run_dir

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        kwargs = super()._prepare_subcommand_kwargs(subcommand)
        if (
            subcommand == "fit"
            and kwargs.get("ckpt_path") is None
            and (good := last_good(self.run_dir / "checkpoints"))
        ):
            print(f"continuing from {good}", flush=True)
            kwargs["ckpt_path"] = str(good)
        if subcommand == "fit":
            kwargs["weights_only"] = True
        if subcommand == "predict":
            kwargs["return_predictions"] = False
        return kwargs

    def _run_subcommand(self, subcommand: str) -> None:
        super()._run_subcommand(subcommand)
        if not self.trainer.is_global_zero:
            return
        if self.trainer.interrupted:
            raise SystemExit(130)
        cost = self.cost.total()
        if subcommand == "fit":
            exported = self.model.exported() if hasattr(self.model, "exported") else self.model
            temporary = self.run_dir / ".weights.safetensors"
            save_model(exported, str(temporary))
            os.replace(temporary, self.run_dir / "weights.safetensors")
        else:
            cost["seconds"] = time.monotonic() - self.started
        metrics = {
            name.removeprefix(f"{subcommand}/"): value.item() for name, value in self.trainer.callback_metrics.items()
        }
        finish(self.run_dir, metrics, cost, wall=time.monotonic() - self.started)


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
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings(
        "ignore",
        message=r".*(does not have many workers|LeafSpec|GPU available but not used|log_every_n_steps|isinstance\(treespec).*",
    )
    try:
        StageCLI(
            model,
            data,
            args=args,
            links=links,
            save_config_callback=None,
            seed_everything_default=0,
            trainer_defaults={
                "enable_progress_bar": sys.stderr.isatty() and "RUN_LABELS" not in os.environ,
                "enable_model_summary": False,
                "use_distributed_sampler": False,
                "num_sanity_val_steps": 0,
            },
            parser_kwargs={"parser_mode": "yaml"},
        )
    except UserError as error:
        _fail(str(error))
    except OSError as error:
        if known := disk_error(error, Path.cwd()):
            _fail(str(known))
        raise


def _fail(message: str) -> None:
    print(f"error: {message}", file=sys.stderr, flush=True)
    raise SystemExit(2)
