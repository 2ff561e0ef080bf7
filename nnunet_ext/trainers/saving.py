"""A trainer whose checkpoints are plain, whole, and hold what an exact continuation needs; see :mod:`.checkpoints`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nnunet_ext.trainers import checkpoints, distributed
from nnunet_ext.trainers.joining import JoiningTrainer
from nnunet_ext.trainers.reading import UnreadableCheckpointError


class SavingTrainer(JoiningTrainer):
    """nnU-Net's trainer with checkpoints of our own making, in nnU-Net's form."""

    inference_allowed_mirroring_axes: Any  # nnU-Net's
    _drawn: tuple[int, int] | None = None  # training and validation batches, by the checkpoint
    _unsaved: frozenset[str] = frozenset()  # checkpoints that could not be written
    _loaded = False

    def save_checkpoint(self, filename: str) -> None:
        """As nnU-Net's, whole or not at all: on a full disk the training goes on and tries again after the epoch.

        Raises:
            OSError: the final checkpoint could not be written; the latest one stays.
        """
        self._write(Path(filename).name, self._content(self.current_epoch + 1))

    def _save_within_epoch(self, outputs: list[dict[str, Any]], validated: int) -> None:
        if self.disable_checkpointing:
            return
        each = distributed.gather([_stored(output) for output in outputs])
        drawn = (self.dataloader_train.drawn, validated)
        self._write(checkpoints.LATEST, self._content(self.current_epoch, drawn, len(outputs), each))

    def _content(
        self, epochs: int, drawn: tuple[int, int] | None = None, step: int = 0, outputs: list[Any] | None = None
    ) -> dict[str, Any]:
        """What a checkpoint holds after so many whole epochs and, in the next one, steps.

        Args:
            epochs: finished ones.
            drawn: training and validation batches; what was drawn until now if it is left out.
            step: finished steps of the epoch after them.
            outputs: what those steps returned, for each rank.
        """
        if drawn is None and self.dataloader_train is not None:
            drawn = self.dataloader_train.drawn, self.dataloader_val.drawn
        log = {name: values[:epochs] for name, values in self.logger.get_checkpoint().items()}
        content = {
            "optimizer_state": self.optimizer.state_dict(),
            "grad_scaler_state": self.grad_scaler.state_dict() if self.grad_scaler is not None else None,
            "logging": log,
            "_best_ema": self._best_ema,
            "current_epoch": epochs,
            "init_args": self.my_init_kwargs,
            "trainer_name": type(self).__name__,
            "inference_allowed_mirroring_axes": self.inference_allowed_mirroring_axes,
            checkpoints.PROGRESS: {"drawn": drawn, "step": step, "outputs": outputs},
        }
        return {"network_weights": self.bare_network.state_dict(), **checkpoints.plain(content)}

    def _write(self, name: str, content: Mapping[str, Any]) -> None:
        if self.local_rank != 0:
            return
        if self.disable_checkpointing:
            self.print_to_log_file("No checkpoint written, checkpointing is disabled")
            return
        try:
            checkpoints.write(content, Path(self.output_folder, name))
        except OSError as error:
            if name == checkpoints.FINAL:
                self.print_to_log_file(f"{name} could not be written ({error}); make room and go on with --c.")
                raise
            self._unsaved |= {name}
            self.print_to_log_file(f"{name} could not be written ({error}); the training goes on and tries again.")
        else:
            self._unsaved -= {name}

    def load_checkpoint(self, filename_or_checkpoint: dict | str) -> None:
        """As nnU-Net's, without running code; with ``--c`` the best that can be read where the given one cannot.

        Raises:
            UnreadableCheckpointError: a ValueError: the file cannot be read, or belongs to another network.
        """
        if not self.was_initialized:
            self.initialize()
        if isinstance(filename_or_checkpoint, dict):
            self._restore(filename_or_checkpoint)
        else:
            self._restore(self._readable(Path(filename_or_checkpoint)))

    def _go_on_after_restart(self) -> None:
        if not self._loaded and any(Path(self.output_folder, name).exists() for name in checkpoints.ALL):
            self.logger.resume = True
            self.load_checkpoint(str(Path(self.output_folder, checkpoints.LATEST)))

    def _readable(self, path: Path) -> dict[str, Any]:
        weights = self.bare_network.state_dict()
        if not self.logger.resume:
            return checkpoints.read(path, weights)
        others = [file for name in checkpoints.ALL if (file := path.with_name(name)) != path and file.exists()]
        try:
            return checkpoints.read(path, weights)
        except UnreadableCheckpointError as error:
            self.print_to_log_file(f"{error} It is skipped.")
        found = []
        for other in others:
            try:
                found.append(checkpoints.read(other, weights))
            except UnreadableCheckpointError as error:
                self.print_to_log_file(f"{error} It is skipped.")
        if not found:
            raise UnreadableCheckpointError(
                f"No checkpoint in {path.parent} can be read (the log says why); train anew without --c."
            )
        used = checkpoints.most_advanced(found)
        assert used is not None
        self.print_to_log_file(f"The training goes on from the one before, after {used['current_epoch']} epochs.")
        return used

    def _restore(self, content: dict[str, Any]) -> None:
        weights = {name.removeprefix("module."): value for name, value in content["network_weights"].items()}
        self.bare_network.load_state_dict(weights)
        if content.get("optimizer_state") is None:
            if self.logger.resume:
                raise UnreadableCheckpointError(
                    "The checkpoint holds weights alone, with which a training cannot go on: begin one with "
                    "-pretrained_weights."
                )
        else:
            self.optimizer.load_state_dict(content["optimizer_state"])
        if self.grad_scaler is not None and content.get("grad_scaler_state") is not None:
            self.grad_scaler.load_state_dict(content["grad_scaler_state"])
        self.my_init_kwargs = content["init_args"]
        self.current_epoch = content["current_epoch"]
        self.logger.load_checkpoint(content["logging"])
        self.inference_allowed_mirroring_axes = content.get(
            "inference_allowed_mirroring_axes", self.inference_allowed_mirroring_axes
        )
        self._best_ema = self._best_so_far(content)
        self._restore_progress(content.get(checkpoints.PROGRESS) or {})
        self._loaded = True

    def _best_so_far(self, content: dict[str, Any]) -> float | None:
        """The best EMA of the log, or of the best checkpoint where that is ahead: a worse one never replaces it."""
        values = [value for value in content["logging"]["ema_fg_dice"] if not np.isnan(value)]
        path = Path(self.output_folder, checkpoints.BEST)
        if self.logger.resume and path.exists():
            try:
                values.append(checkpoints.read(path, self.bare_network.state_dict())["_best_ema"])
            except UnreadableCheckpointError as error:
                self.print_to_log_file(f"{error} The next best one replaces it.")
        return max((value for value in values if value is not None), default=None)

    def _restore_progress(self, progress: dict[str, Any]) -> None:
        self._drawn = tuple(progress["drawn"]) if progress.get("drawn") else None
        each = progress.get("outputs") or [[]]
        mine = each[self.local_rank % len(each)]  # with another number of processes a step's loss is another's
        self._outputs = tuple(_returned(output) for output in mine)


def _stored(output: Mapping[str, Any]) -> dict[str, Any]:
    """What a step returned, its NumPy values as tensors: their type and bits stay."""
    return {
        k: torch.from_numpy(np.asarray(v)) if isinstance(v, np.ndarray | np.generic) else v for k, v in output.items()
    }


def _returned(output: Mapping[str, Any]) -> dict[str, Any]:
    """What :func:`_stored` was given; a NumPy number comes back as an array without axes."""
    return {k: v.numpy() if isinstance(v, torch.Tensor) else v for k, v in output.items()}
