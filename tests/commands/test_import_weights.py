import json
from argparse import Namespace

import numpy as np
import pytest
import torch
from monai.networks import nets
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights

from nnunet_ext.cli import main
from nnunet_ext.commands import import_weights
from nnunet_ext.networks import registry
from tests.networks import monai, oracles, plans
from tests.trainers import workspace

DATASET = "Dataset501_BraTS"
TRAINER = "nnUNetTrainer_SwinUNETR_XS"
WIDTH = 12
ORDER = ["FLAIR", "T1Gd", "T1w", "T2"]  # of the file; the dataset's is T1, T1ce, T2, FLAIR
STAGES, PATCH = 6, (64, 64)


@pytest.fixture
def preprocessed(tmp_path, monkeypatch):
    """nnUNet_preprocessed with a dataset of four modalities and a plan of six stages in 2D, for speed."""
    planned = workspace.plans(4)
    configuration = planned["configurations"].pop("3d_fullres")
    configuration["architecture"]["arch_kwargs"] = plans.isotropic(2, STAGES)
    configuration["patch_size"] = PATCH
    planned["configurations"]["2d"] = configuration
    folder = tmp_path / "preprocessed" / DATASET
    folder.mkdir(parents=True)
    (folder / "nnUNetPlans.json").write_text(json.dumps(planned))
    (folder / "dataset.json").write_text(json.dumps(workspace.dataset_json(workspace.FOUR)))
    monkeypatch.setenv("nnUNet_preprocessed", str(folder.parent))
    return folder


@pytest.fixture
def oracle():
    return oracles.randomise(nets.SwinUNETR(4, 3, feature_size=WIDTH, spatial_dims=2))


@pytest.fixture
def call(preprocessed, tmp_path):
    """A function that writes ``content`` and imports it: (exit code, the checkpoint's path)."""

    def run(content, *options, trainer=TRAINER):
        source, out = tmp_path / "monai.pt", tmp_path / "out.pth"
        torch.save(content, source)
        arguments = [str(source), "-tr", trainer, "-d", "501", "-c", "2d", "-o", str(out), *options]
        return main(["import-weights", *arguments]), out

    return run


def table(capsys):
    return [line.split() for line in capsys.readouterr().out.splitlines()]


def stock(path):
    """A network of the trainer after nnU-Net's own ``-pretrained_weights``."""
    spec = registry.find(TRAINER)[0]
    network = plans.build(spec, plans.isotropic(2, STAGES), PATCH, size="XS").eval()
    head = network.decoder.seg_layers[-1]
    load_pretrained_weights(network, path)
    return network, head


def test_stock_pretrained_weights_take_the_checkpoint_and_give_monais_output(call, oracle, capsys):
    code, out = call(oracle.state_dict(), "--channels", *ORDER)
    assert code == 0
    network, head = stock(out)
    monais_head = oracle.out.conv.conv.state_dict()
    head.load_state_dict(monais_head)  # nnU-Net never takes over segmentation layers
    x = plans.image(PATCH)  # T1, T1ce, T2, FLAIR
    with torch.no_grad():
        expected = oracle(x[:, [3, 1, 0, 2]])
        assert (network(x) - expected).abs().max() < monai.TOLERANCE * expected.abs().max()
    rows, stored = table(capsys), torch.load(out, weights_only=True)["network_weights"]
    assert ["matched", "151"] in rows
    assert ["shape", "differs", "0"] in rows
    assert ["decoder.seg_layers.0.weight", "3x96x1x1"] in rows[rows.index(["missing", str(len(stored) - 151)]) :]
    assert ["swinViT.layers1.0.blocks.0.attn.relative_position_index", "49x49"] in rows[rows.index(["unused", "8"]) :]
    assert torch.equal(stored["decoder.seg_layers.4.weight"], monais_head["weight"])


def test_wrapped_and_prefixed_weights_with_a_numpy_score_are_the_same(call, oracle):
    state = oracle.state_dict()
    _, out = call(state, "--channels", *ORDER)
    plain = torch.load(out, weights_only=True)["network_weights"]
    wrapped = {f"module.{key}": value.half().float() for key, value in state.items()}
    assert call({"state_dict": wrapped, "best_acc": np.float64(0.9), "epoch": 3}, "--channels", *ORDER)[0] == 0
    stored = torch.load(out, weights_only=True)["network_weights"]
    torch.testing.assert_close(
        stored["encoder.patch_embed.weight"], plain["encoder.patch_embed.weight"], rtol=1e-3, atol=0
    )


def test_modalities_that_the_file_lacks_keep_their_initial_weights(call, oracle):
    two = nets.SwinUNETR(2, 3, feature_size=WIDTH, spatial_dims=2)
    code, out = call(two.state_dict(), "--channels", "flair", "t1c")
    assert code == 0
    stored = torch.load(out, weights_only=True)["network_weights"]["encoder.patch_embed.weight"]
    theirs = two.swinViT.patch_embed.proj.weight
    assert torch.equal(stored[:, 3], theirs[:, 0])
    assert torch.equal(stored[:, 1], theirs[:, 1])
    assert not torch.equal(stored[:, 0], theirs[:, 0])


def test_what_does_not_fit_is_told_and_initial(call, capsys):
    larger = nets.SwinUNETR(1, 3, feature_size=WIDTH, spatial_dims=2, depths=(4, 2, 2, 2))
    code, out = call(larger.state_dict())
    assert code == 0
    rows = table(capsys)
    assert ["encoder.patch_embed.weight", "12x4x2x2,", "in", "the", "file", "12x1x2x2"] in rows
    assert ["swinViT.layers1.0.blocks.3.mlp.linear1.weight", "48x12"] in rows
    stock(out)


def test_pretraining_of_the_transformer_alone(call, oracle):
    alone = {
        f"module.{key.removeprefix('swinViT.').replace('mlp.linear', 'mlp.fc')}": value
        for key, value in oracle.state_dict().items()
        if key.startswith("swinViT.")
    }
    code, out = call({"state_dict": alone})
    assert code == 0
    stored = torch.load(out, weights_only=True)["network_weights"]
    block = oracle.swinViT.layers2[0].blocks[1]
    assert torch.equal(stored["encoder.stages.1.blocks.1.mlp.fc2.weight"], block.mlp.linear2.weight)
    assert torch.equal(stored["encoder.stages.1.blocks.1.attention.qkv.bias"], block.attn.qkv.bias)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--channels", "T1", "t1n"], "names a modality twice"),
        (["--channels", "CT"], "is a channel here: T1 T1ce T2 FLAIR"),
        (["--channels", "T1", "T2"], r"names 2 modalities, but the network in .* reads 4"),
        (["--channels", *ORDER, "CT"], "names 5 modalities"),
        (["-d", "7"], "0 datasets 7"),
        (["-p", "Other"], "no plans .*Other.json"),
        (["-c", "3d_fullres"], "no configuration '3d_fullres', only 2d"),
        (["-tr", "nnUNetTrainer"], "none of this package's trainers"),
        (["-tr", "nnUNetTrainer_UNet3D"], "no counterpart in MONAI"),
        (["-tr", "nnUNetTrainer_UNETR_XS"], r"Only \d of the 159 tensors"),
        (["-o", "nowhere/out.pth"], "no folder nowhere"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(call, oracle, capsys, options, sentence):
    code, out = call(oracle.state_dict(), *options)
    assert code == 2
    assert not out.exists()
    printed, error = capsys.readouterr()
    assert printed == ""
    assert error.count("\n") == 1
    with pytest.raises(ValueError, match=sentence):
        raise ValueError(error)


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {"state_dict": Namespace()}], ids=["list", "no", "code"])
def test_files_without_weights_are_refused(call, capsys, content):
    assert call(content)[0] == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_file_cannot_run_anything(tmp_path, call, capsys):
    class Trap:
        def __reduce__(self):
            return print, ("sprung",)

    assert call({"state_dict": Trap()})[0] == 2
    printed, error = capsys.readouterr()
    assert "sprung" not in printed
    assert "it was not read and nothing of it was run" in error


def test_without_nnunets_folder_it_says_so(call, oracle, monkeypatch, capsys):
    monkeypatch.delenv("nnUNet_preprocessed")
    assert call(oracle.state_dict())[0] == 2
    assert "nnunet_ext env" in capsys.readouterr().err


def test_the_help_names_what_is_not_seen():
    assert "mergingv2" in import_weights.__doc__


# --- checkpoints of nnU-Net


@pytest.fixture
def trained(preprocessed):
    """The weights of a network as a training would save them, all of them ones."""
    planned, dataset = (json.loads((preprocessed / n).read_text()) for n in ("nnUNetPlans.json", "dataset.json"))
    network = import_weights._network("nnUNetTrainer_UNet3D_XS", planned, "2d", dataset)
    return {name: torch.ones_like(value) for name, value in network.state_dict().items()}


def test_a_checkpoint_of_the_same_network_is_taken_whole(call, trained, capsys):
    code, out = call({"network_weights": trained}, trainer="nnUNetTrainer_UNet3D_XS")
    assert code == 0
    assert all((value == 1).all() for value in torch.load(out, weights_only=True)["network_weights"].values())
    assert f"  taken: {len(trained)} tensors" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("trainer", "told"),
    [
        ("nnUNetTrainer_UNet3DStride_XS", "0 tensors do not fit; these are weights of nnUNetTrainer_UNet3D_XS."),
        ("nnUNetTrainer_UNet3D_S", "tensors do not fit; these are weights of nnUNetTrainer_UNet3D_XS."),
    ],
)
def test_another_network_is_refused_unless_asked_for(call, trained, capsys, trainer, told):
    checkpoint = {"network_weights": trained, "trainer_name": "nnUNetTrainer_UNet3D_XS"}
    code, out = call(checkpoint, trainer=trainer)
    assert code == 2
    assert not out.exists()
    assert told in capsys.readouterr().err
    code, out = call(checkpoint, "--partial", trainer=trainer)
    assert code == 0
    weights = torch.load(out, weights_only=True)["network_weights"]
    assert any((value == 1).all() for value in weights.values())
    assert "  taken: " in capsys.readouterr().out
