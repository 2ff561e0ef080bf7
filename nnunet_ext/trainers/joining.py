"""A trainer for one process, several of nnU-Net's, or several of torchrun's; see :mod:`.distributed`."""

from typing import Any

import numpy as np
import torch
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import nn
from torch._dynamo import OptimizedModule
from torch.nn.parallel import DistributedDataParallel

from nnunet_ext.trainers import distributed
from nnunet_ext.trainers.lowest import LowestOutputUsed


class JoiningTrainer(nnUNetTrainer):
    """nnU-Net's trainer, which joins torchrun's other processes when training or validation starts."""

    is_ddp: bool  # nnU-Net's
    device: torch.device
    network: Any
    _outputs: tuple[dict[str, Any], ...] = ()  # of the steps of an epoch that was begun before

    @property
    def bare_network(self) -> Any:
        """The network without the wrappers of DDP and torch.compile; None before ``initialize``."""
        network = self.network.module if isinstance(self.network, DistributedDataParallel) else self.network
        return network._orig_mod if isinstance(network, OptimizedModule) else network

    def print_to_log_file(self, *args: Any, also_print_to_console: bool = True, add_timestamp: bool = True) -> None:
        """As nnU-Net's; of torchrun's processes only the first writes, from the constructor on."""
        if (here := distributed.place()) is not None:
            self.local_rank = here.rank  # nnU-Net's name for the rank among all
        super().print_to_log_file(*args, also_print_to_console=also_print_to_console, add_timestamp=add_timestamp)

    def _take_place(self) -> None:
        """Called by the constructor: nnU-Net's has chosen the first GPU, for a process that is alone."""
        here = distributed.place()
        if here is not None and not self.is_ddp:
            self.local_rank = here.rank
            if self.device.type == "cuda":
                self.device = torch.device("cuda", here.local_rank)
                torch.cuda.set_device(self.device)

    def _join_processes(self) -> None:
        """What nnU-Net's ``initialize`` does for several GPUs, for torchrun's processes."""
        if distributed.place() is None or self.is_ddp:
            return
        distributed.join(self.device)
        if distributed.anyone(distributed.restarted(), self.device):
            self._go_on_after_restart()
        self.is_ddp = True
        begun = distributed.gather((self.current_epoch, len(self._outputs)))
        if len(set(begun)) > 1:
            raise ValueError(f"The processes begin at {begun} (epoch, step): nnUNet_results must be a shared folder.")
        self._set_batch_size_and_oversample()
        batches = distributed.gather(self.batch_size)
        self.print_to_log_file(f"Batch of each of {len(batches)} processes: {batches}, in all {sum(batches)}.")
        cuda = self.device.type == "cuda"
        network = torch.nn.SyncBatchNorm.convert_sync_batchnorm(self.network) if cuda else self.network
        self.network = DistributedDataParallel(network, device_ids=[self.device.index] if cuda else None)
        self.loss = self._build_loss()

    def _go_on_after_restart(self) -> None:
        """Called in every process before the network is wrapped, where torchrun has started any of them anew."""

    def _build_loss(self) -> nn.Module:
        """As nnU-Net's for one process; for several it gives the lowest output a weight of 1e-6 instead of none."""
        loss = super()._build_loss()
        if not self.is_ddp or not isinstance(loss, DeepSupervisionWrapper) or len(loss.weight_factors) == 1:
            return loss
        weights = np.array([*loss.weight_factors[:-1], 0])
        used = LowestOutputUsed(loss.loss, weights / weights.sum())
        self.optimizer.register_step_pre_hook(used.forget_gradients)
        return used

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """As nnU-Net's, shared by the processes that torchrun started."""
        self._join_processes()
        super().perform_actual_validation(save_probabilities)
        distributed.part()
