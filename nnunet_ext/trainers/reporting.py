"""nnU-Net's trainer, telling how it stands: progress.jsonl, TensorBoard, a progress line, pretrained weights."""

import math
import sys
import time
from pathlib import Path
from typing import Any

from nnunet_ext.trainers import progress
from nnunet_ext.trainers.applying import RecipeTrainer
from nnunet_ext.trainers.board import Board
from nnunet_ext.trainers.pretrained import Arrivals
from nnunet_ext.trainers.progress_line import ProgressLine


class ReportingTrainer(RecipeTrainer):
    """Adds a line an epoch to what the training leaves behind; rank 0 writes."""

    arrivals: Arrivals | None = None
    line: ProgressLine | None = None
    board: Board | None = None

    def initialize(self) -> None:
        """As nnU-Net's; from here on it is noted which weights are loaded into the network."""
        super().initialize()
        self.arrivals = Arrivals(self.bare_network)
        self.memory = progress.Memory(self.device)
        self.parts: dict[str, float] = {}
        self.seconds = {"training": 0.0, "validation": 0.0}
        self.waited, self.steps_done, self.step_ended = 0.0, 0, time.monotonic()

    def on_train_start(self) -> None:
        """As nnU-Net's; tells what pretrained weights gave, and forgets the lines of epochs that come again."""
        arrivals = self.arrivals
        if arrivals is not None:
            arrivals.close()
            if arrivals.came and not self._loaded:
                self.print_to_log_file(arrivals.table(), also_print_to_console=True, add_timestamp=False)
        super().on_train_start()
        if self.local_rank == 0:
            folder = Path(self.output_folder)
            progress.forget_from(folder, self.current_epoch)
            self.line = ProgressLine(sys.stderr, self.num_epochs, self.num_iterations_per_epoch)
            self.board = Board(folder, self.current_epoch)

    # --- clocks

    def on_train_epoch_start(self) -> None:
        """As nnU-Net's; starts the epoch's clocks."""
        super().on_train_epoch_start()
        self.waited, self.steps_done = 0.0, len(self._outputs)
        self.step_ended = self.phase_began = time.monotonic()

    def train_step(self, batch: dict) -> dict[str, Any]:
        """As before; the time since the last step was spent on waiting for data."""
        self.waited += time.monotonic() - self.step_ended
        result = super().train_step(batch)
        self.memory.sample()
        if self.line is not None:
            self.line.step(self.current_epoch, self.steps_done, float(result["loss"]))
        self.steps_done += 1
        self.step_ended = time.monotonic()
        return result

    def _further_batch(self) -> dict:
        began = time.monotonic()
        batch = super()._further_batch()
        self.waited += time.monotonic() - began
        return batch

    def on_train_epoch_end(self, train_outputs: list[dict]) -> None:
        """As nnU-Net's; keeps the parts of the loss and the time."""
        super().on_train_epoch_end(train_outputs)
        self.seconds["training"] = time.monotonic() - self.phase_began
        values = {name: [float(output[name]) for output in train_outputs] for name in self.loss_parts.NAMES.values()}
        counted = {name: [v for v in found if not math.isnan(v)] for name, found in values.items()}
        self.parts = {name: sum(found) / len(found) for name, found in counted.items() if found}

    def on_validation_epoch_start(self) -> None:
        """As nnU-Net's; starts the validation's clock."""
        self.phase_began = time.monotonic()
        super().on_validation_epoch_start()

    def on_validation_epoch_end(self, val_outputs: list[dict]) -> None:
        """As before; stops the validation's clock."""
        super().on_validation_epoch_end(val_outputs)
        self.seconds["validation"] = time.monotonic() - self.phase_began

    # --- the line

    def on_epoch_end(self) -> None:
        """As before; writes the epoch's line."""
        super().on_epoch_end()
        memory = self.memory.take()
        if self.local_rank != 0:
            return
        record = self._record(self.current_epoch - 1, memory)
        progress.append(Path(self.output_folder), record)
        if self.board is not None:
            self.board.add(record)
        if self.line is not None:
            self.line.epoch({name: value for name, value in record["dice"].items() if value is not None})

    def _record(self, epoch: int, memory: dict[str, float | None]) -> dict[str, Any]:
        """What is known of an epoch; numbers that do not exist are null, for JSON has no NaN."""

        def logged(name: str) -> Any:
            return self.logger.get_value(name, epoch)

        seconds = {
            "epoch": logged("epoch_end_timestamps") - logged("epoch_start_timestamps"),
            **self.seconds,
            "waiting_for_data": self.waited,
        }
        return {
            "epoch": epoch,
            "loss": {
                "training": _finite(logged("train_losses")),
                **self.parts,
                "validation": _finite(logged("val_losses")),
            },
            "learning_rate": float(logged("lrs")),
            "seconds": {name: round(value, 3) for name, value in seconds.items()},
            "memory": memory,
            "dice": dict(zip(self.region_names(), map(_finite, logged("dice_per_class_or_region")), strict=True)),
            "mean_dice": _finite(logged("mean_fg_dice")),
            "ema_dice": _finite(logged("ema_fg_dice")),
            "validated": self.recipe.validates(epoch),
            **progress.origin(),
        }

    def region_names(self) -> list[str]:
        """Names of the regions or classes of which nnU-Net logs a pseudo Dice, in its order."""
        named = {name: value for name, value in self.dataset_json["labels"].items() if name != "ignore"}
        if self.label_manager.has_regions:
            keys = [_key(region) for region in self.label_manager.foreground_regions]
        else:
            keys = [_key(label) for label in self.label_manager.foreground_labels]
        by_key = {_key(value): name for name, value in named.items()}
        return [by_key.get(key, "+".join(map(str, key))) for key in keys]

    def on_train_end(self) -> None:
        """As nnU-Net's; ends TensorBoard's files."""
        super().on_train_end()
        if self.board is not None:
            self.board.close()


def _key(labels: Any) -> tuple[int, ...]:
    return tuple(sorted(int(label) for label in (labels if isinstance(labels, list | tuple) else [labels])))


def _finite(value: Any) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None
