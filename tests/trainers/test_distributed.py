"""Several processes: forks that torchrun's variables tell where they are, on the loopback, with gloo."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunetv2.run.run_training import find_free_network_port, maybe_load_checkpoint

from benchmarks.interruptions.fingerprint import fingerprint
from benchmarks.interruptions.moments import at, signalled
from benchmarks.interruptions.runs import Training, kill
from nnunet_ext.trainers import distributed
from nnunet_ext.trainers.checkpoints import BEST, FINAL, LATEST
from nnunet_ext.trainers.reading import read_safely
from nnunet_ext.trainers.signals import EXIT_CODE
from tests.trainers import workspace
from tests.trainers.test_training import trainer_for

NAME = "nnUNetTrainer_DualBranchGhost_XS_NoAug_2epochs_iter3_seed7"
EACH_STEP = {"save_steps": 1, "save_every": 1}
LONGEST = 300  # seconds until a process that hangs is killed


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """The tiny dataset with Dice over the whole batch, where processes must know each other's part."""
    root = tmp_path_factory.mktemp("batch_dice")
    plans = workspace.write(root) / "nnUNetPlans.json"
    content = json.loads(plans.read_text())
    content["configurations"]["3d_fullres"]["batch_dice"] = True
    plans.write_text(json.dumps(content))
    return root


def ended(processes, training):
    """The exit codes by rank."""
    deadline = time.monotonic() + LONGEST
    for process in processes:
        process.join(max(0, deadline - time.monotonic()))
        if process.is_alive():
            kill(process)
    return [process.exitcode for process in processes]


def keeping_weights(path):
    """Has a process write its network's weights when it has trained."""

    def change(trainer):
        end = trainer.on_train_end

        def keep():
            end()
            torch.save(trainer.bare_network.state_dict(), path)

        trainer.on_train_end = keep

    return change


@pytest.fixture(scope="module")
def two(root, tmp_path_factory):
    """Two processes that trained together."""
    training = Training(root, tmp_path_factory.mktemp("two"), NAME, EACH_STEP)
    changes = {rank: keeping_weights(training.results / f"rank_{rank}.pth") for rank in (0, 1)}
    assert ended(training.start_together(2, changes=changes), training) == [0, 0], training.outputs()
    return training


def differences(one, other):
    assert one.keys() == other.keys()
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one)


def test_the_ranks_have_the_same_weights(two):
    first, second = (torch.load(two.results / f"rank_{rank}.pth", weights_only=True) for rank in (0, 1))
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def joined(one, other):
    return {
        "data": torch.cat([one["data"], other["data"]]),
        "target": [torch.cat(pair) for pair in zip(one["target"], other["target"], strict=True)],
    }


def drawing_for_both_ranks(trainer, join=joined):
    """Has one process train on the batches of two: sample 0 of the one, sample 1 of the other."""
    plain = trainer.get_dataloaders

    class Joined:
        drawn = 0

        def __init__(self, streams):
            self.streams = streams

        def __next__(self):
            return join(*(next(stream) for stream in self.streams))

        def close(self):
            pass

    def both():
        ranks = []
        for trainer.local_rank, trainer.oversample_foreground_percent in ((0, 0.0), (1, 1.0)):  # nnU-Net's shares
            trainer.batch_size = 1
            ranks.append(plain())
        trainer.local_rank = 0
        return tuple(Joined(streams) for streams in zip(*ranks, strict=True))

    trainer.get_dataloaders = both


def test_two_processes_are_one_with_the_same_global_batch(two, root, tmp_path):
    one = Training(root, tmp_path, NAME)
    assert one.run(change=drawing_for_both_ranks) == 0, one.outputs()
    mine, theirs = read_safely(one.folder / FINAL), read_safely(two.folder / FINAL)
    initial = trainer_weights(root, tmp_path)
    assert differences(mine["network_weights"], theirs["network_weights"]) < 1e-6
    assert differences(mine["network_weights"], initial) > 1e-3, "the training changes nothing: this proves nothing"
    for key in ("train_losses", "val_losses", "mean_fg_dice"):
        assert mine["logging"][key] == pytest.approx(theirs["logging"][key], abs=1e-6), key


def trainer_weights(root, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in Training(root, tmp_path / "initial", NAME).environment(0).items():
            patch.setenv(name, value)
        trainer = trainer_for(NAME)
        trainer.initialize()
        return trainer.network.state_dict()


def test_only_the_first_rank_writes_and_the_batches_are_told(two):
    assert len(list(two.folder.glob("training_log*.txt"))) == 1
    log = next(two.folder.glob("training_log*.txt")).read_text()
    assert "Batch of each of 2 processes: [1, 1], in all 2." in log
    assert json.loads((two.folder.parent / "plans.json").read_text())["plans_name"] == "nnUNetPlans"


def test_every_rank_has_data_of_its_own(root, tmp_path):
    def noting(rank):
        def change(trainer):
            step = trainer.train_step

            def note(batch):
                with (tmp_path / f"batches_{rank}.txt").open("a") as file:
                    file.write(f"{batch['data'].double().sum().item()}\n")
                return step(batch)

            trainer.train_step = note

        return change

    training = Training(root, tmp_path, NAME.replace("NoAug_2epochs", "1epochs"))
    processes = training.start_together(2, changes={rank: noting(rank) for rank in (0, 1)})
    assert ended(processes, training) == [0, 0], training.outputs()
    seen = [(tmp_path / f"batches_{rank}.txt").read_text().split() for rank in (0, 1)]
    assert len({*seen[0], *seen[1]}) == 6


def test_a_killed_process_is_restarted_without_c_and_goes_on_exactly(two, root, tmp_path):
    training = Training(root, tmp_path, NAME, EACH_STEP)
    processes = training.start_together(2, changes={1: at("train_step", 3)})
    processes[1].join(LONGEST)
    assert processes[1].exitcode == -signal.SIGKILL, training.outputs()
    kill(processes[0])  # as torchrun does
    again = training.start_together(2, environments={0: {}, 1: {"TORCHELASTIC_RESTART_COUNT": "1"}})
    assert ended(again, training) == [0, 0], training.outputs()
    for name in (FINAL, BEST):
        assert fingerprint(training.folder / name) == fingerprint(two.folder / name), name


def test_a_signal_to_one_process_makes_all_leave_after_the_same_step(two, root, tmp_path):
    training = Training(root, tmp_path, NAME)
    processes = training.start_together(2, changes={1: signalled("train_step", 5, signal.SIGUSR1)})
    assert ended(processes, training) == [EXIT_CODE, EXIT_CODE], training.outputs()
    saved = read_safely(training.folder / LATEST)
    assert (saved["current_epoch"], saved["nnunet_ext"]["step"]) == (1, 2)
    assert len(saved["nnunet_ext"]["outputs"]) == 2, "the losses of each rank"
    assert ended(training.start_together(2, goes_on=True), training) == [0, 0], training.outputs()
    assert fingerprint(training.folder / FINAL) == fingerprint(two.folder / FINAL)


def test_processes_that_read_different_checkpoints_refuse_to_train(root, tmp_path):
    def elsewhere(trainer):
        trainer.current_epoch = 1

    training = Training(root, tmp_path, NAME)
    assert ended(training.start_together(2, changes={1: elsewhere}), training) == [1, 1]
    assert "The processes begin at [(0, 0), (1, 0)] (epoch, step)" in training.outputs()


# --- places


@pytest.fixture
def second_node(monkeypatch):
    """This process is the second on the second machine of three."""
    given = {"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "12", "TORCHELASTIC_RUN_ID": "x"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)


def test_local_and_global_rank_are_told_apart(second_node):
    assert distributed.place() == distributed.Place(rank=5, local_rank=1, world_size=12, restarts=0)
    assert not distributed.restarted()


def test_pretrained_weights_are_read_on_a_second_machine(two, nnunet, second_node):
    """nnU-Net takes the global rank for the index of a GPU, which this machine does not have."""
    trainer = trainer_for(NAME)
    maybe_load_checkpoint(trainer, False, False, str(two.folder / FINAL))
    stored = read_safely(two.folder / FINAL)["network_weights"]
    here = trainer.network.state_dict()
    assert all(torch.equal(value, stored[name]) for name, value in here.items() if "seg_layers" not in name)
    assert trainer.local_rank == 5, "nnU-Net's name for the rank that decides who writes"
    assert not list(nnunet.rglob("training_log*"))


def test_a_gpu_is_that_of_the_local_rank(second_node, nnunet, monkeypatch):
    chosen = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    trainer = trainer_for(NAME)
    trainer.device = torch.device("cuda", 0)  # as nnU-Net's constructor chooses on a machine with GPUs
    trainer._take_place()
    assert trainer.device == torch.device("cuda", 1)
    assert chosen == [torch.device("cuda", 1)]


# --- torchrun itself

TORCHRUN = Path(sys.executable).with_name("torchrun")
TRAIN = Path(sys.executable).with_name("nnUNetv2_train")


def torchrun(port, output, *options, environment=None):
    """Starts an agent of torchrun that is one of two machines; what it and its workers print goes into a file."""
    rendezvous = ["--rdzv_backend", "c10d", "--rdzv_endpoint", f"127.0.0.1:{port}", "--rdzv_id", "test"]
    command = [TORCHRUN, "--nnodes", "2", "--nproc_per_node", "1", "--local_addr", "127.0.0.1", *rendezvous, *options]
    with output.open("w") as file:
        return subprocess.Popen(
            [str(word) for word in command],
            env={**os.environ, **(environment or {})},
            stdout=file,
            stderr=subprocess.STDOUT,
        )


def test_a_machine_that_never_comes_is_an_error(tmp_path):
    output = tmp_path / "output.txt"
    waiting = torchrun(find_free_network_port(), output, "--rdzv_conf", "join_timeout=2", "--no-python", "true")
    assert waiting.wait(LONGEST) != 0
    assert "RendezvousTimeoutError" in output.read_text()


@pytest.mark.slow
def test_two_machines_one_of_which_loses_its_worker_are_one_machine_with_two_processes(two, root, tmp_path):
    """Two agents of torchrun on the loopback, stock nnUNetv2_train with its final validation."""
    training = Training(root, tmp_path, NAME)
    environment = {
        **training.environment(0),
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_THREAD_LIMIT": "1",
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",  # docs/trainers.md says why
    }
    words = ["--max_restarts", "1", "--no-python", TRAIN, "999", "3d_fullres", "0", "-tr", NAME, "-device", "cpu"]
    port, files = find_free_network_port(), [tmp_path / f"agent_{node}.txt" for node in (0, 1)]
    agents = [torchrun(port, file, *words, environment=environment) for file in files]
    try:
        kill_worker_after_first_epoch(training, agents)
        codes = [agent.wait(LONGEST) for agent in agents]
    finally:
        for agent in agents:
            agent.kill()
    said = "\n".join(file.read_text() for file in files)
    assert codes == [0, 0], said
    assert fingerprint(training.folder / FINAL) == fingerprint(two.folder / FINAL), said
    summary = json.loads((training.folder / "validation" / "summary.json").read_text())
    assert len(summary["metric_per_case"]) == 2
    assert np.isfinite(summary["foreground_mean"]["Dice"])


def kill_worker_after_first_epoch(training, agents):
    deadline = time.monotonic() + LONGEST
    while time.monotonic() < deadline:
        assert all(agent.poll() is None for agent in agents), "it ended before it could be killed"
        if (training.folder / BEST).exists() and (workers := children(agents[1].pid)):
            os.kill(workers[0], signal.SIGKILL)
            return
        time.sleep(0.02)
    pytest.fail("no epoch was done")


def children(pid):
    return [int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()]
