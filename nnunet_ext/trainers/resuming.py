"""nnU-Net's trainer, made to go on after any interruption as if there had been none.

Data and random numbers are functions of (seed, rank, index): see :mod:`.batches`. A checkpoint says how many batches
were drawn and, within an epoch, what its steps have returned. The loop over steps is written here because nnU-Net's has
no place between two steps and cannot begin within an epoch; the hooks that it calls are nnU-Net's, in their order.
"""

import secrets
import sys
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from nnunetv2.utilities.default_n_proc_DA import get_allowed_n_proc_DA

from nnunet_ext.trainers import checkpoints, distributed
from nnunet_ext.trainers.batches import Stream, without_workers
from nnunet_ext.trainers.recipe import Recipe
from nnunet_ext.trainers.saving import SavingTrainer
from nnunet_ext.trainers.seeding import STEPS, TRAINING, VALIDATION, repeat_on_gpu, seed_generators
from nnunet_ext.trainers.signals import EXIT_CODE, Request, listening


class ResumableTrainer(SavingTrainer):
    """nnU-Net's trainer with data by index, a loop that can begin within an epoch, and an answer to signals.

    Attributes:
        save_steps: a checkpoint is written every so many training steps; None for nnU-Net's way, every ``save_every``
            epochs.
    """

    recipe: ClassVar[Recipe]
    save_every: int  # nnU-Net's
    save_steps: int | None = None
    _request: Request = Request()

    # --- data

    def get_dataloaders(self) -> tuple[Stream, Stream]:
        """nnU-Net's loaders for training and validation, whose batch k is the same for any number of workers."""
        workers = get_allowed_n_proc_DA()
        with without_workers():
            plain = super().get_dataloaders()
        drawn = self._drawn or (
            self.current_epoch * self.num_iterations_per_epoch,
            self.current_epoch * self.num_val_iterations_per_epoch,
        )
        counts = (workers, max(min(workers, 1), workers // 2))  # as nnU-Net shares them
        pin = self.device.type == "cuda"
        training, validation = (
            Stream(single.data_loader, (self._seed, stream, self.local_rank), first, count, pin)
            for single, stream, first, count in zip(plain, (TRAINING, VALIDATION), drawn, counts, strict=True)
        )
        return training, validation

    @cached_property
    def _seed(self) -> int:
        """The recipe's, or one of this process alone."""
        return secrets.randbits(63) if self.recipe.seed is None else self.recipe.seed

    # --- loop

    def run_training(self) -> None:
        """As nnU-Net's, step by step; a signal makes it save and leave with the exit code of :mod:`.signals`."""
        with listening() as self._request:
            try:
                self.on_train_start()
                while self.current_epoch < self.num_epochs:
                    self._run_epoch()
                self.on_train_end()
            finally:
                for stream in (self.dataloader_train, self.dataloader_val):
                    if stream is not None:
                        stream.close()

    def _run_epoch(self) -> None:
        self.on_epoch_start()
        outputs = self._train_epoch()
        with torch.no_grad():
            self._validate_epoch(outputs)
        self.on_epoch_end()
        self._save_after_epoch()

    def _train_epoch(self) -> list[dict[str, Any]]:
        self.on_train_epoch_start()
        outputs, self._outputs = list(self._outputs), ()
        for step in range(len(outputs), self.num_iterations_per_epoch):
            seed_generators(self._seed, STEPS, self.local_rank, self.current_epoch, step)
            outputs.append(self.train_step(next(self.dataloader_train)))
            self._save_after_step(outputs)
        self.on_train_epoch_end(outputs)
        return outputs

    def _validate_epoch(self, trained: list[dict[str, Any]]) -> None:
        self.on_validation_epoch_start()
        drawn = self.dataloader_val.drawn
        outputs = []
        for _ in range(self.num_val_iterations_per_epoch):
            outputs.append(self.validation_step(next(self.dataloader_val)))
            if self._must_leave():  # the validation is done again: its batches are the same
                self._leave(trained, drawn)
        self.on_validation_epoch_end(outputs)

    def _save_after_step(self, outputs: list[dict[str, Any]]) -> None:
        if self._must_leave():
            self._leave(outputs, self.dataloader_val.drawn)
        steps = self.current_epoch * self.num_iterations_per_epoch + len(outputs)
        if self.save_steps and steps % self.save_steps == 0:
            self._save_within_epoch(outputs, self.dataloader_val.drawn)

    def _save_after_epoch(self) -> None:
        """The latest checkpoint comes last: after the best one and all that ``on_epoch_end`` writes."""
        if self.current_epoch == self.num_epochs:
            return
        leave = self._must_leave()
        if leave or checkpoints.LATEST in self._unsaved or self.current_epoch % self.save_every == 0:
            self._write(checkpoints.LATEST, self._content(self.current_epoch))
        if leave:
            self._exit()

    def _must_leave(self) -> bool:
        return distributed.anyone(self._request.name is not None, self.device)

    def _leave(self, outputs: list[dict[str, Any]], drawn: int) -> None:
        self._save_within_epoch(outputs, drawn)
        self._exit()

    def _exit(self) -> None:
        distributed.wait()  # torchrun ends all processes as soon as one has ended
        saved = (
            "an older checkpoint is all there is" if checkpoints.LATEST in self._unsaved else "the training is saved"
        )
        self.print_to_log_file(
            f"Asked to stop ({self._request.name or 'another process'}): {saved}; the same command with --c goes on."
        )
        raise SystemExit(EXIT_CODE)

    # --- hooks of nnU-Net's trainer

    def on_train_start(self) -> None:
        """As nnU-Net's; a restarted worker of torchrun goes on, a new training puts an earlier one's files aside."""
        if not self.was_initialized:
            self.initialize()
        self._join_processes()
        if self.local_rank == 0 and not (self.logger.resume or self._loaded or self.disable_checkpointing):
            for name in checkpoints.put_aside(Path(self.output_folder)):
                self.print_to_log_file(f"{name} is of an earlier training in this folder; it was put aside.")
        if self.device.type == "cuda" and self.recipe.seed is not None:
            repeat_on_gpu()
        with distributed.writing_alone(self):
            super().on_train_start()

    def on_epoch_end(self) -> None:
        """As nnU-Net's, but for the latest checkpoint, and a picture that cannot be drawn stops nothing."""
        # NumPy's numbers and Python's round differently where both meet, and a checkpoint has Python's
        self.logger.load_checkpoint(checkpoints.plain(self.logger.get_checkpoint()))
        epoch, every, best = self.current_epoch, self.save_every, self._best_ema
        self.save_every = sys.maxsize
        self._unsaved -= {checkpoints.BEST}
        try:
            super().on_epoch_end()
        except OSError as error:
            self.print_to_log_file(f"The curves could not be drawn ({error}); the training goes on.")
        self.save_every, self.current_epoch = every, epoch + 1
        if checkpoints.BEST in self._unsaved:  # the next that is better than the file is tried again
            self._best_ema = best

    def on_train_end(self) -> None:
        """As nnU-Net's; with the final checkpoint there, the one before the latest goes too."""
        super().on_train_end()
        if self.local_rank == 0 and not self.disable_checkpointing:
            Path(self.output_folder, checkpoints.PREVIOUS).unlink(missing_ok=True)
