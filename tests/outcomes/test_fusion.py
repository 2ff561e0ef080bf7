"""Several inputs of a case and its covariates: what each encoder sees, what the heads read, what is refused."""

import csv
import json

import nibabel as nib
import numpy as np
import pytest
import torch
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights

from nnunet_ext.cli import main
from nnunet_ext.networks.registry import PREFIX, find
from nnunet_ext.outcomes import results as tables
from nnunet_ext.outcomes.prediction import case_outputs, with_covariates
from tests.outcomes.conftest import CPU, SCHEMA, TABLE, add_2d, fold_of, train, write_targets
from tests.outcomes.test_case_networks import build
from tests.outcomes.test_training import trainer_for
from tests.trainers import workspace
from tests.trainers.conftest import use

BOTH = PREFIX + "CaseUNet3D_XS_NoAug_1epochs_iter1_Covariates_Fused_Target1and3_seed1"
AGES = {"case0": "40", "case1": "50", "case2": "60", "case3": "900", "case4": "55"}
SEXES = {"case0": "F", "case1": "M", "case2": "F", "case3": "F", "case4": "M"}


def with_columns(table):
    rows = list(csv.DictReader(table.splitlines()))
    lines = [",".join([*rows[0], "age", "sex"])]
    lines += [",".join([*row.values(), AGES[row["case"]], SEXES[row["case"]]]) for row in rows]
    return "\n".join(lines) + "\n"


DECLARED = {
    **SCHEMA,
    "covariates": {"age": {"coding": "z"}, "sex": {"coding": "binary", "levels": ["F", "M"]}},
    "inputs": {"first": [0, 2], "second": [1, 3]},
}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """The tiny dataset with two inputs and two covariates, and one training that uses both."""
    root = tmp_path_factory.mktemp("pairs")
    folder = workspace.write(root)
    write_targets(folder, DECLARED, with_columns(TABLE))
    add_2d(folder)
    with pytest.MonkeyPatch.context() as patch:
        use(patch, root, root / "results")
        train(BOTH)
    return root


@pytest.fixture
def trainer(pairs, tmp_path, monkeypatch):
    use(monkeypatch, pairs, tmp_path / "results")
    made = trainer_for(pairs, BOTH)
    made.initialize()
    return made


def test_each_input_has_an_encoder_that_sees_its_channels_alone(trainer):
    network = trainer.network.eval()
    x = torch.randn(1, 4, 16, 16, 16)
    with torch.no_grad():
        before = network.features(x)
        x[:, 2] = torch.randn(16, 16, 16)
        after = network.features(x)
    parts = [width // 2 for width in network.encoder.output_channels[-3:] for _ in network.poolings]
    of_inputs = [each.split([part for part in parts for _ in "12"], 1) for each in (before, after)]
    assert network.n_features == 2 * sum(parts)
    for index, (one, other) in enumerate(zip(*of_inputs, strict=True)):
        assert torch.equal(one, other) == (index % 2 == 1), "the second input's features alone stay"


def test_multi_level_fusion_projects_the_last_four_stages_of_both_inputs(pairs, tmp_path, monkeypatch):
    use(monkeypatch, pairs, tmp_path / "results")
    trainer = trainer_for(pairs, PREFIX + "CaseResNet18_Covariates_Fused_MultiLevel_Target1_seed1")
    trainer.initialize()
    network = trainer.network.eval()
    projection = network.heads.seg_layers[0][0]
    assert [(layer.in_features, layer.out_features) for layer in projection.each] == [
        (2 * width, 256) for width in (64, 128, 256, 512)
    ]
    x = torch.randn(1, 6, 32, 32, 32)
    with torch.no_grad():
        maps = network.encoder(x[:, :4])
        levels = [
            layer(torch.stack([channel.mean() for channel in level[0]]))
            for layer, level in zip(projection.each, maps, strict=True)
        ]
        told = torch.cat([*levels, x[0, 4:, 0, 0, 0]])
        projected = projection(torch.cat((network.features(x[:, :4]), x[:, 4:, 0, 0, 0]), 1))[0]
        torch.testing.assert_close(projected, told, rtol=1e-4, atol=1e-5)
        perceptron = network.heads.seg_layers[0][1:]
        torch.testing.assert_close(network(x), network.heads.each[0](perceptron(told[None])), rtol=1e-4, atol=1e-5)


def test_the_heads_read_covariates_standardised_by_the_training_cases_alone(trainer):
    batch = {"keys": ["case3", "case1"], "data": torch.zeros(2, 4, 16, 16, 16), "target": None}
    data = trainer._with_targets(batch)["data"]
    ages = np.array([40, 50, 60])
    assert data.shape[1] == 6
    told = data[:, 4:, 3, 2, 1]
    expected = [[(900 - ages.mean()) / ages.std(), 0], [(50 - ages.mean()) / ages.std(), 1]]
    np.testing.assert_allclose(told.numpy(), expected, rtol=1e-6, atol=1e-6)
    network = trainer.network
    seen = []
    network.heads.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network(data)
    torch.testing.assert_close(seen[0][:, -2:], told)
    torch.testing.assert_close(seen[0][:, :-2], network.features(data[:, :4]))


def test_no_parameter_is_without_gradient(trainer):
    trainer.network(torch.randn(2, 6, 16, 16, 16)).square().sum().backward()
    assert [name for name, p in trainer.network.named_parameters() if p.grad is None] == []


def test_a_small_image_is_padded_and_its_covariates_are_not():
    class Told(torch.nn.Module):
        def forward(self, x):
            return x[:, -2:].flatten(2).amin(2)

    found = case_outputs(Told(), torch.randn(1, 3, 3, 3), (8, 8, 8), CPU, "device", torch.tensor([2.0, 5.0]))
    assert found.tolist() == [2, 5]
    assert with_covariates(torch.zeros(2, 1, 4, 4), torch.ones(2, 3)).shape == (2, 4, 4, 4)


def test_a_validation_and_a_prediction_read_them(pairs, tmp_path, monkeypatch, capsys):
    use(monkeypatch, pairs, pairs / "results")
    found = tables.read(fold_of(pairs / "results", BOTH) / "validation")
    assert list(found.columns) == ["grade", "score"]
    images = tmp_path / "images"
    images.mkdir()
    image, _ = workspace.case(np.random.default_rng(4), workspace.FOUR)
    for channel, volume in enumerate(image):
        nib.save(nib.Nifti1Image(volume.transpose(2, 1, 0), np.eye(4)), images / f"case4_{channel:04d}.nii.gz")
    words = ["predict-cases", "-i", images, "-d", workspace.DATASET, "-tr", BOTH, "-c", "3d_fullres", "-f", 0]
    words += ["-device", "cpu", "-o", tmp_path / "out"]
    assert main([*map(str, words)]) == 1
    assert "the model reads the covariates age, sex; give a table" in capsys.readouterr().err
    scores = []
    for age in ("55", "70"):
        table = tmp_path / f"{age}.csv"
        table.write_text(with_columns(TABLE).replace("P4,55", f"P4,{age}"))
        assert main([*map(str, [*words, "--targets", table])]) == 0
        scores.append(tables.read(tmp_path / "out").of("score").loc["case4", "prediction"])
    assert scores[0] != scores[1], "age is read"


def test_after_the_first_phase_the_last_stages_of_each_encoder_are_trained(pairs, tmp_path, monkeypatch):
    use(monkeypatch, pairs, tmp_path / "results")
    made = trainer_for(pairs, PREFIX + "CaseUNet3D_XS_NoAug_Freeze1_Unfreeze2_2epochs_iter1_Fused_seed1")
    made.initialize()
    trained = {name.rpartition(".")[0] for name, p in made.network.encoder.named_parameters() if p.requires_grad}
    stages = {tuple(name.split(".")[1:4]) for name in trained}
    assert stages == {(str(i), "trunk", str(k)) for i in (0, 1) for k in (1, 2)}


def single(seed, path):
    torch.manual_seed(seed)
    network = build(find("CaseUNet3D")[0], 3, channels=2, patch=16, stages=3)
    torch.save({"network_weights": network.state_dict(), "trainer_name": PREFIX + "CaseUNet3D_XS"}, path)
    return network.encoder.state_dict()


def test_a_fusion_starts_from_a_training_on_each_input(pairs, tmp_path, monkeypatch, capsys):
    use(monkeypatch, pairs, tmp_path / "results")
    files = [tmp_path / "first.pth", tmp_path / "second.pth"]
    encoders = [single(seed, file) for seed, file in enumerate(files)]
    words = [
        "import-weights",
        files[0],
        "-tr",
        BOTH,
        "-d",
        workspace.DATASET,
        "-c",
        "3d_fullres",
        "-o",
        tmp_path / "o.pth",
    ]
    assert main([*map(str, [*words, "--further", files[1]])]) == 0
    trainer = trainer_for(pairs, BOTH)
    trainer.initialize()
    load_pretrained_weights(trainer.network, tmp_path / "o.pth")
    for each, expected in zip(trainer.network.encoder.each, encoders, strict=True):
        assert all(torch.equal(value, expected[name]) for name, value in each.state_dict().items())
    (tmp_path / "o.pth").unlink()
    for further, count in (["--further", files[1], files[0]], 3), ([], 1):
        assert main([*map(str, [*words, *further])]) == 2
        assert f"for each of the inputs first, second, and {count} files are given" in capsys.readouterr().err
        assert not (tmp_path / "o.pth").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("CaseUNet3D_XS_Covariates", 'The word Covariates needs "covariates" in targets.json'),
        ("CaseUNet3D_XS_Fused", 'The word Fused needs "inputs" in targets.json'),
    ],
)
def test_what_is_not_declared_is_refused(nnunet, case_dataset, name, message):
    with pytest.raises(ValueError, match=message):
        trainer_for(case_dataset, PREFIX + name)


def test_branches_for_modalities_are_no_inputs(pairs, tmp_path, monkeypatch):
    use(monkeypatch, pairs, tmp_path / "results")
    made = trainer_for(pairs, PREFIX + "CaseDualBranchGhost_XS_Fused")
    with pytest.raises(ValueError, match="Fused needs a network with a single encoder"):
        made.initialize()


def test_the_model_keeps_what_its_network_depends_on(pairs):
    plans = json.loads((fold_of(pairs / "results", BOTH).parent / "plans.json").read_text())["outcomes"]
    assert list(plans["columns"]) == ["grade", "score"]
    assert plans["inputs"] == {"first": [0, 2], "second": [1, 3]}
    assert list(plans["covariates"]) == ["age", "sex"]
