"""nnU-Net's trainer, doing what a recipe says: optimiser, loss, step, precision, intervals, early stopping."""

import json
from collections.abc import Iterator
from itertools import chain, repeat
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from nnunet_ext.trainers import checkpoints, distributed, stopping
from nnunet_ext.trainers.freezing import hold_statistics
from nnunet_ext.trainers.guard import SKIPPED_STEPS, FiniteLoss, NonFiniteLossError, first_non_finite
from nnunet_ext.trainers.losses import LossParts, with_parts
from nnunet_ext.trainers.optimisers import EpochSchedule, optimiser_for
from nnunet_ext.trainers.precision import loss_context, scaler_for
from nnunet_ext.trainers.resuming import ResumableTrainer
from nnunet_ext.trainers.step import accumulate, update
from nnunet_ext.trainers.volumes import mean_dice
from nnunet_ext.whole import write_text

RECIPE_FILE = "recipe.json"
RECIPE, CHECKS = "recipe", "stopping"  # keys of a checkpoint's init_args
VALIDATED = ("dice_per_class_or_region", "val_losses")


class RecipeTrainer(ResumableTrainer):
    """Applies ``recipe``; what it leaves at nnU-Net's value is done as nnU-Net does it."""

    SCORE: ClassVar[str] = "Mean Dice"
    grad_scaler: Any  # nnU-Net's
    loss_parts: Any  # what the parts of a step's loss were, with the names that they have in the log

    def _apply_recipe(self) -> None:
        """Called by the constructor, after nnU-Net's."""
        recipe = self.recipe
        self.initial_lr, self.weight_decay = recipe.initial_lr, recipe.weight_decay
        self.num_epochs, self.num_iterations_per_epoch = recipe.epochs, recipe.iterations
        self.num_val_iterations_per_epoch = recipe.validation_iterations
        self.enable_deep_supervision = recipe.deep_supervision
        self.save_every, self.save_steps = recipe.save_every, recipe.save_steps
        self.grad_scaler = scaler_for(self.device, recipe.precision, self.grad_scaler)
        self.my_init_kwargs[RECIPE] = recipe.as_dict()

    # --- the step

    def configure_optimizers(self) -> tuple[Optimizer, EpochSchedule]:
        """Optimiser and schedule of the recipe."""
        return optimiser_for(self.recipe, self.network, lambda: self.logger.get_value("ema_fg_dice", None))

    def _set_batch_size_and_oversample(self) -> None:
        """As nnU-Net's, which shares the plan's batch among processes; a word's takes its place.

        Raises:
            ValueError: there are more processes than the word's batch has cases.
        """
        if self.recipe.batch is not None:
            if self.is_ddp and self.recipe.batch < (processes := torch.distributed.get_world_size()):
                raise ValueError(
                    f"Batch{self.recipe.batch} is shared by {processes} processes, and each needs a case; use fewer."
                )
            # of this trainer's own plans manager, as nnU-Net's Primus trainers do; what is saved is the plans' file
            self.configuration_manager.configuration["batch_size"] = self.recipe.batch
        super()._set_batch_size_and_oversample()

    def on_train_epoch_start(self) -> None:
        """As nnU-Net's, which puts the whole network in training; what is frozen keeps its running statistics."""
        super().on_train_epoch_start()
        hold_statistics(self.bare_network, self.recipe, self.current_epoch)

    def _build_loss(self) -> nn.Module:
        loss = with_parts(super()._build_loss(), self.recipe.loss)
        self.loss_parts = LossParts(loss)
        return FiniteLoss(loss, SKIPPED_STEPS if self.grad_scaler is not None else 0)

    def _do_i_compile(self) -> bool:
        return self.recipe.compile and super()._do_i_compile()

    def set_deep_supervision_enabled(self, enabled: bool) -> None:
        """As nnU-Net's, which switches it on after each validation; without the heads for it, it stays off."""
        super().set_deep_supervision_enabled(enabled and self.recipe.deep_supervision)

    def train_step(self, batch: dict) -> dict[str, Any]:
        """As nnU-Net's, by the recipe; also returns the parts of the loss.

        Raises:
            NonFiniteLossError: the loss is not finite; the message names the layer, the weights are as before the step.
        """
        self.optimizer.zero_grad(set_to_none=True)
        try:
            loss = self._accumulate(batch)
        except NonFiniteLossError as error:
            reason = str(error)
        else:
            update(self.network, self.optimizer, self.recipe.clip, self.grad_scaler)
            absent = {name: torch.full_like(loss, torch.nan) for name in self.loss_parts.NAMES.values()}
            values = {"loss": loss, **absent, **self.loss_parts.take()}
            numbers = torch.stack([value.float() for value in values.values()]).cpu().numpy()
            return dict(zip(values, (np.asarray(number) for number in numbers), strict=True))
        # here, where the failed pass and its memory are gone
        self.optimizer.zero_grad(set_to_none=True)
        where = first_non_finite(
            self.bare_network,
            batch["data"].to(self.device),
            loss_context(self.device, self.recipe.precision),
            scaled=self.grad_scaler is not None,
        )
        raise NonFiniteLossError(
            f"Epoch {self.current_epoch}: {reason} and {where}; the weights are those before this step. Lower the "
            f"learning rate, or look at the data if the batch is the cause."
        )

    def _accumulate(self, batch: dict) -> torch.Tensor:
        return accumulate(
            self.network,
            self.loss,
            chain([batch], self._further_batches()),
            self.recipe.accumulation,
            device=self.device,
            precision=self.recipe.precision,
            scaler=self.grad_scaler,
        )

    def _further_batches(self) -> Iterator[dict]:
        return (self._further_batch() for _ in repeat(None))

    def _further_batch(self) -> dict:
        batch: dict = next(self.dataloader_train)
        return batch

    # --- validation of some epochs

    def on_epoch_start(self) -> None:
        """As nnU-Net's; says whether this epoch is validated."""
        due = self.recipe.validates(self.current_epoch)
        self.num_val_iterations_per_epoch = self.recipe.validation_iterations if due else 0
        super().on_epoch_start()

    def on_validation_epoch_end(self, val_outputs: list[dict]) -> None:
        """As nnU-Net's; an epoch without validation has the values of the last one, its moving average too."""
        if val_outputs:
            self._log_validation(val_outputs)
            return
        for name in VALIDATED:
            self.logger.log(name, self.logger.get_value(name, -1), self.current_epoch)
        for name in ("mean_fg_dice", "ema_fg_dice"):  # nnU-Net's logger would move the average
            log = self.logger.local_logger
            log.log(name, log.get_value(name, -1), self.current_epoch)

    def _log_validation(self, outputs: list[dict]) -> None:
        super().on_validation_epoch_end(outputs)

    # --- early stopping

    @property
    def _checks(self) -> list[dict[str, Any]]:
        """What full volumes told when the patience had run out; it travels with the checkpoints."""
        checks: list[dict[str, Any]] = self.my_init_kwargs.get(CHECKS, [])
        return checks

    def on_epoch_end(self) -> None:
        """As nnU-Net's; ends the training when nothing is gained any more."""
        super().on_epoch_end()
        history = self.logger.get_value("ema_fg_dice", None)
        if self.current_epoch < self.num_epochs and stopping.is_due(history, self.recipe.patience, self._checks):
            self._check_full_volumes()

    def _check_full_volumes(self) -> None:
        """Ends the training unless full volumes are segmented better than by the best checkpoint."""
        now, best = self.full_volume_score(), self._score_of_best()
        end = best is None or not now > best
        check = {"epoch": self.current_epoch - 1, "now": now, "best": best, "stopped": end}
        self.my_init_kwargs[CHECKS] = [*self._checks, check]
        told = f"{now:.4f} now" + ("" if best is None else f", {best:.4f} with the best checkpoint")
        self.print_to_log_file(
            f"No better pseudo Dice for {self.recipe.patience} epochs. {self.SCORE} on full volumes: {told}. "
            + ("The training ends." if end else "The training goes on.")
        )
        if end:
            self.num_epochs = self.current_epoch

    def full_volume_score(self) -> float:
        """How good the network as it is does on full validation volumes; the larger the better."""
        return mean_dice(self)

    def _score_of_best(self) -> float | None:
        """The same of the best checkpoint; None where none was written."""
        distributed.wait()
        path = Path(self.output_folder, checkpoints.BEST)
        if self.disable_checkpointing or not path.is_file():
            return None
        network = self.bare_network
        mine = {name: value.clone() for name, value in network.state_dict().items()}
        network.load_state_dict(checkpoints.read(path, mine)["network_weights"])
        score = self.full_volume_score()
        network.load_state_dict(mine)
        return score

    # --- the recipe on disk

    def _restore(self, content: dict[str, Any]) -> None:
        """As before; another recipe's optimiser state is left out: validation needs none, training on is refused."""
        self._stored = content["init_args"].get(RECIPE) or self._recipe_file()
        if self._begun_otherwise() and content.get("optimizer_state") is not None:
            content = {**content, "optimizer_state": self.optimizer.state_dict()}
        super()._restore(content)

    def _recipe_file(self) -> dict[str, Any]:
        """The recipe of a folder whose checkpoints have none, as version 0.1.0 wrote them."""
        path = Path(self.output_folder, RECIPE_FILE)
        begun: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        return begun

    def _begun_otherwise(self) -> dict[str, tuple[Any, Any]]:
        """Fields in which the loaded checkpoint's recipe differs from this one: a version may change a family's."""
        return self.recipe.changed_since(self._stored) if self._stored is not None else {}

    _stored: dict[str, Any] | None = None

    def on_train_start(self) -> None:
        """As nnU-Net's; a training that was ended early is not gone on with.

        Raises:
            ValueError: a training that is continued was begun with another recipe.
        """
        if self._loaded:
            self._refuse_another_recipe()
            self.my_init_kwargs[RECIPE] = self.recipe.as_dict()
            if stopping.stopped(self._checks):
                self.num_epochs = self.current_epoch
                self.print_to_log_file(f"This training was ended early, after {self.current_epoch} epochs.")
        super().on_train_start()

    def _refuse_another_recipe(self) -> None:
        if changed := self._begun_otherwise():
            then, now = (", ".join(f"{name} {values[k]}" for name, values in changed.items()) for k in (0, 1))
            raise ValueError(
                f"The training in {self.output_folder} was begun with {then} and would go on with {now}; go on with "
                f"the version of nnunet_ext that its {RECIPE_FILE} names, or train anew without --c. --val and "
                f"prediction work as ever."
            )


def write_json(record: dict[str, Any], path: Path) -> None:
    """Writes a file for people, whole or not at all."""
    write_text(path, json.dumps(record, indent=2) + "\n")
