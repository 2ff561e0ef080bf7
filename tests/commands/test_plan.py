import pytest

from nnunet_ext.cli import main
from nnunet_ext.commands.preprocessed import dataset_number
from nnunet_ext.planning.memory import TrainingMemory
from tests.planning import dataset

TRAINER = "nnUNetTrainer_UNet3D_XS"
NAME = "nnUNetPlans_UNet3D_XS_0.02GB"


@pytest.fixture
def folder(tmp_path, monkeypatch, capsys):
    made = dataset.write(tmp_path, monkeypatch)
    capsys.readouterr()
    return made


def call(*options, trainer=TRAINER, memory="0.02", number="501"):
    return main(["plan", "-d", number, "-tr", trainer, "--gpu-memory", memory, "--reserve", "0", *options])


def test_plans_are_written_and_told(folder, capsys):
    assert call() == 0
    plan = dataset.plans(folder, NAME)["configurations"]["3d_fullres"]
    lines = capsys.readouterr().out.splitlines()
    row = next(line for line in lines if line.startswith("3d_fullres"))
    patch = "x".join(map(str, plan["patch_size"]))
    assert row.split()[:3] == ["3d_fullres", patch, str(plan["batch_size"])]
    assert "memory: " in row
    assert "For a card of 0.02 GB, of which 0 are held back" in lines[-3]
    assert row.endswith("nnUNetPlans_3d_fullres")
    assert f"-p {NAME}" in lines[-2]
    assert f"nnUNetv2_preprocess -d 501 -plans_name {NAME} -c 2d 3d_fullres" in lines[-1]


def test_a_dataset_of_four_digits_is_preprocessed_by_its_number(folder):
    assert dataset_number(folder) == 501
    assert dataset_number(folder.parent / "Dataset1000_Tiny") == 1000
    assert dataset_number(folder.parent / "Dataset003_100") == 3
    with pytest.raises(ValueError, match="is no dataset of nnU-Net"):
        dataset_number(folder.parent)


def test_what_holds_no_tensor_is_held_back(folder, capsys):
    assert call("--reserve", "2.5", memory="2.52") == 0
    assert "For a card of 2.52 GB, of which 2.5 are held back" in capsys.readouterr().out
    held_back = dataset.plans(folder, "nnUNetPlans_UNet3D_XS_2.52GB")["configurations"]
    assert call() == 0
    for name, configuration in dataset.plans(folder, NAME)["configurations"].items():
        assert held_back[name]["patch_size"] == configuration["patch_size"]
    capsys.readouterr()
    assert main(["plan", "-d", "501", "-tr", TRAINER, "--gpu-memory", "2.5"]) == 2
    assert "Of 2.5 GB 2.5 are held back" in capsys.readouterr().err


def test_what_does_not_fit_is_left_out_and_told(folder, monkeypatch, capsys):
    monkeypatch.setattr(TrainingMemory, "__call__", slices_are_large)
    assert call() == 0
    out = capsys.readouterr().out
    assert "2d is left out: UNet3D_XS does not fit 0.02 GB" in out
    assert set(dataset.plans(folder, NAME)["configurations"]) == {"3d_fullres"}


def slices_are_large(self, architecture, input_shape, *, classes, image_channels):
    return 10**9 if len(input_shape) == 4 else 10**6


@pytest.mark.parametrize("closed", ["", "dataset.json", f"{NAME}.json"])
def test_a_folder_that_may_not_be_written_to(folder, monkeypatch, capsys, closed):
    assert call() == 0
    capsys.readouterr()
    monkeypatch.setattr("os.access", lambda path, mode: path != folder / closed)
    assert call() == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert f"Planning writes to {folder / closed}, which is not allowed" in err
    assert err.count("\n") == 1


def test_what_is_preprocessed_is_not_asked_for_again(folder, capsys):
    for identifier in ("nnUNetPlans_2d", "nnUNetPlans_3d_fullres"):
        (folder / identifier).mkdir()
    assert call() == 0
    assert "Not preprocessed" not in capsys.readouterr().out


def test_names_and_options(folder):
    assert call("--name", "mine", "--max-dataset-covered", "0.5", trainer="unet3d_xs") == 0
    assert call() == 0
    large, usual = (dataset.plans(folder, name)["configurations"]["3d_fullres"] for name in ("mine", NAME))
    assert large["patch_size"] == usual["patch_size"]


@pytest.mark.parametrize(
    ("options", "changed", "told"),
    [
        ([], {"trainer": "nnUNetTrainer_UNet3X"}, "nearest: nnunettrainer_unet3d"),
        ([], {"trainer": "nnUNetTrainer_UNet3D_Huge"}, "unknown word 'Huge'"),
        ([], {"number": "502"}, "holds 0 datasets 502"),
        (["-p", "others"], {}, "There are no plans"),
        ([], {"memory": "0"}, "must be a positive number"),
        ([], {"memory": "nan"}, "must be a positive number"),
        (["--max-dataset-covered", "2"], {}, "at most 1"),
        (["--name", "a__b"], {}, "cannot be named"),
        (["--name", "../a"], {}, "cannot be named"),
        (["--name", "nnUNetPlans"], {}, "another planner"),
        ([], {"memory": "0.0001"}, "it needs 0.0"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(folder, capsys, options, changed, told):
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != "dataset.json"}
    assert call(*options, **changed) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert told in err
    assert err.count("\n") == 1
    assert {path: path.read_bytes() for path in folder.iterdir() if path.name != "dataset.json"} == before


@pytest.mark.parametrize("missing", ["raw/{}/dataset.json", "preprocessed/{}/dataset_fingerprint.json"])
def test_files_that_planning_reads(folder, capsys, missing):
    path = folder.parents[1] / missing.format(dataset.NAME)
    path.unlink()
    assert call() == 2
    assert path.name in capsys.readouterr().err
