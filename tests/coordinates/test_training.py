"""The word CoordConv through nnU-Net's own training and prediction."""

import json
import os
import pickle
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.run.run_training import run_training
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2, nnUNetDatasetNumpy
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunet_ext.coordinates.configuration import CoordinatePreprocessor
from nnunet_ext.coordinates.dataset import WITH_COORDINATES
from nnunet_ext.coordinates.field import AXES, coordinates
from nnunet_ext.trainers import trainer_class
from tests.trainers import workspace
from tests.trainers.conftest import use

CPU = torch.device("cpu")
NAME = "nnUNetTrainer_UNet3D_XS_CoordConv_1epochs_iter1_seed1"
PLAIN = "nnUNetTrainer_UNet3D_XS_1epochs_iter1_seed1"
CHANNELS = len(workspace.FOUR)
pytestmark = pytest.mark.xdist_group("coordinates")  # one training serves most of them


def folder():
    return Path(os.environ["nnUNet_preprocessed"]) / workspace.DATASET


def trainer(name=NAME, configuration="3d_fullres"):
    plans = json.loads((folder() / "nnUNetPlans.json").read_text()) | {"continue_training": False}
    dataset = json.loads((folder() / "dataset.json").read_text())
    return trainer_class(name)(plans, configuration, 0, dataset, CPU)


def model(results, configuration="3d_fullres", name=NAME):
    return results / workspace.DATASET / f"{name}__nnUNetPlans__{configuration}"


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory):
    """Trained and validated by nnU-Net's own function; its folders stay set for the module."""
    results = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        use(patch, dataset, results)
        run_training(workspace.DATASET, "3d_fullres", 0, NAME, device=CPU)
        yield results


def predictor(results, *, mirroring=False):
    made = nnUNetPredictor(device=CPU, use_mirroring=mirroring, allow_tqdm=False, verbose_preprocessing=False)
    made.initialize_from_trained_model_folder(str(model(results)), (0,))
    return made


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """One case for prediction: its files and its array (C, Z, Y, X)."""
    out = tmp_path_factory.mktemp("images")
    image, _ = workspace.case(np.random.default_rng(5), workspace.FOUR)
    for channel, volume in enumerate(image):
        nib.save(nib.Nifti1Image(volume.transpose(2, 1, 0), np.eye(4)), out / f"new_{channel:04d}.nii.gz")
    return out, image


@pytest.fixture(scope="module")
def expected(trained, images):
    """The slow way: nnU-Net's preprocessing, coordinates put behind it by hand, logits to labels by hand."""
    made = predictor(trained)
    data, _, _ = DefaultPreprocessor(verbose=False).run_case_npy(
        images[1], None, {"spacing": [1.0, 1.0, 1.0]}, made.plans_manager, made.configuration_manager, made.dataset_json
    )
    axes = [np.linspace(1, 3, n, dtype=np.float32) for n in data.shape[1:]]
    data = np.concatenate([data, np.stack(np.meshgrid(*axes, indexing="ij"))])
    made.network.load_state_dict(made.list_of_parameters[0])
    logits = made.predict_sliding_window_return_logits(torch.from_numpy(data))
    return made.label_manager.convert_logits_to_segmentation(logits).numpy()


def read(path):
    return np.asarray(nib.load(path).dataobj).transpose(2, 1, 0)


def test_predict_from_files(trained, images, expected, tmp_path):
    predictor(trained).predict_from_files(
        str(images[0]), str(tmp_path), num_processes_preprocessing=1, num_processes_segmentation_export=1
    )
    np.testing.assert_array_equal(read(tmp_path / "new.nii.gz"), expected)


def test_predict_from_files_sequential(trained, images, expected, tmp_path):
    predictor(trained).predict_from_files_sequential(str(images[0]), str(tmp_path))
    np.testing.assert_array_equal(read(tmp_path / "new.nii.gz"), expected)


def test_predict_single_npy_array(trained, images, expected):
    found = predictor(trained).predict_single_npy_array(images[1], {"spacing": [1.0, 1.0, 1.0]})
    np.testing.assert_array_equal(found, expected)


def test_predict_from_list_of_npy_arrays(trained, images, expected):
    ((found, *_),) = predictor(trained).predict_from_list_of_npy_arrays(
        [images[1]], None, [{"spacing": [1.0, 1.0, 1.0]}], None, 1, True, 1
    )
    np.testing.assert_array_equal(found, expected)


def test_the_final_validation_is_the_prediction(trained, images, dataset):
    validated = model(trained) / "fold_0" / "validation"
    assert json.loads((validated / "summary.json").read_text())["foreground_mean"]["Dice"] >= 0
    made = predictor(trained, mirroring=True)
    case = WITH_COORDINATES[nnUNetDatasetBlosc2](
        str(dataset / "preprocessed" / workspace.DATASET / "tiny_3d_fullres"), ["case3"]
    )
    data = torch.from_numpy(case.load_case("case3")[0][:])
    made.network.load_state_dict(made.list_of_parameters[0])
    logits = made.predict_sliding_window_return_logits(data)
    found = made.label_manager.convert_logits_to_segmentation(logits).numpy()
    np.testing.assert_array_equal(read(validated / "case3.nii.gz"), found)


class Echo(torch.nn.Module):
    """Gives its coordinates as logits, and keeps what it saw."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x):
        self.seen.append(x.clone())
        return x[:, CHANNELS : CHANNELS + AXES].clone()


@pytest.mark.parametrize("mirroring", [False, True])
def test_a_voxel_has_one_coordinate_in_every_tile_padding_and_mirror(trained, mirroring):
    made = predictor(trained, mirroring=mirroring)
    made.network, made.use_gaussian = Echo(), False  # its weights at corners are too small for half precision
    shape = (19, 12, 23)  # the middle axis is padded to the patch
    field = torch.from_numpy(coordinates(shape))
    data = torch.cat([torch.zeros(CHANNELS, *shape), field])
    logits = made.predict_sliding_window_return_logits(data)
    torch.testing.assert_close(logits.float(), field, rtol=0, atol=2e-3)  # tiles are added up in half precision
    padded = torch.nn.functional.pad(field, (0, 0, 2, 2))
    assert not padded[:, :, :2].any(), "outside"
    assert (field >= 1).all(), "inside"
    tiles = [padded[s] for s in made._internal_get_sliding_window_slicers(padded.shape[1:])]
    mirrors = [()] + [(2,), (3,), (4,), (2, 3), (2, 4), (3, 4), (2, 3, 4)] * mirroring
    expected = [tile[None].flip(axes) for tile in tiles for axes in mirrors]
    for seen, tile in zip(made.network.seen, expected, strict=True):
        torch.testing.assert_close(seen[:, CHANNELS:], tile, rtol=0, atol=1e-6)


def test_the_training_loader_gives_each_voxel_its_coordinate_and_reads_only_the_crop(nnunet, monkeypatch):
    made = trainer()
    made.initialize()
    loader, _ = made.get_dataloaders()
    inner = loader.source.loader  # without worker processes
    inner.transforms = None
    case = inner._data
    read_case = type(case).__mro__[1].load_case

    def numbered(self, identifier):
        """The image's first channels say where a voxel lies."""
        image, *others = read_case(self, identifier)
        field = coordinates(image.shape[1:])
        return np.concatenate([field, np.zeros((CHANNELS - AXES, *image.shape[1:]), np.float32)]), *others

    monkeypatch.setattr(type(case).__mro__[1], "load_case", numbered)
    outside = 0
    for _ in range(5):
        batch = inner.generate_train_batch()["data"]
        assert batch.shape[1] == CHANNELS + AXES
        assert torch.equal(batch[:, :AXES], batch[:, CHANNELS:])
        padding = batch[:, CHANNELS:] == 0
        assert torch.equal(padding.all(1), padding.any(1)), "outside along one axis is outside"
        assert (batch[:, CHANNELS:][~padding] >= 1).all()
        outside += padding.sum()
    assert outside > 0, "the loader reads patches that are larger than the image"


@pytest.mark.parametrize("configuration", ["2d", "3d_lowres"])
def test_other_configurations_train_and_validate(nnunet, configuration):
    run_training(workspace.DATASET, configuration, 0, NAME, device=CPU)
    assert (model(nnunet, configuration) / "fold_0" / "validation" / "summary.json").is_file()
    if configuration == "3d_lowres":
        run_training(workspace.DATASET, "3d_cascade_fullres", 0, NAME, device=CPU)
        cascade = model(nnunet, "3d_cascade_fullres") / "fold_0"
        assert (cascade / "validation" / "summary.json").is_file()
        weights = torch.load(cascade / "checkpoint_final.pth", weights_only=False)["network_weights"]
        first = next(iter(weights.values()))
        assert first.shape[1] == CHANNELS + AXES + 3, "image, coordinates, one-hot labels of the previous stage"


@pytest.mark.parametrize("order", [(NAME, PLAIN, NAME), (PLAIN, NAME, PLAIN)], ids=["with first", "without first"])
def test_networks_with_and_without_coordinates_share_a_plans_manager(nnunet, order):
    manager = PlansManager(str(folder() / "nnUNetPlans.json"))
    for name in order:
        configuration = manager.get_configuration("3d_fullres")
        network = trainer_class(name).build_network_architecture(manager, configuration, CHANNELS, 3, False)
        extra = AXES if name == NAME else 0
        assert next(network.parameters()).shape[1] == CHANNELS + extra
        assert configuration.preprocessor_class is (CoordinatePreprocessor if extra else DefaultPreprocessor)
        data, _, _ = configuration.preprocessor_class(verbose=False).run_case_npy(
            np.ones((CHANNELS, *workspace.SHAPE)), None, {"spacing": [1.0] * 3}, manager, configuration, {}
        )
        assert data.shape[0] == CHANNELS + extra


def test_npz_datasets_have_coordinates_too(tmp_path):
    image, seg = workspace.case(np.random.default_rng(0), workspace.FOUR)
    nnUNetDatasetNumpy.save_case(image, seg, {}, str(tmp_path / "a"))
    data, found, previous, _ = WITH_COORDINATES[nnUNetDatasetNumpy](str(tmp_path)).load_case("a")
    np.testing.assert_array_equal(data[:], np.concatenate([image, coordinates(image.shape[1:])]))
    np.testing.assert_array_equal(found, seg)
    assert previous is None


def test_what_spawned_workers_get_survives_pickling(nnunet):
    made = trainer()
    made.initialize()
    assert made.dataset_class is WITH_COORDINATES[nnUNetDatasetBlosc2]
    dataset = pickle.loads(pickle.dumps(made.get_tr_and_val_datasets()[0]))
    assert dataset.load_case("case0")[0].shape[0] == CHANNELS + AXES
    configuration = pickle.loads(pickle.dumps(made.configuration_manager))
    assert isinstance(configuration, ConfigurationManager)
    assert configuration.preprocessor_class is CoordinatePreprocessor


def test_branches_get_the_coordinates_as_well(nnunet):
    made = trainer(NAME.replace("UNet3D", "DualBranchGhost"))
    made.initialize()
    made.network.eval()
    x = torch.randn(1, CHANNELS + AXES, *workspace.PATCH)
    moved = x.clone()
    moved[:, CHANNELS:] = 0
    with torch.no_grad():
        assert not torch.allclose(made.network(x)[0], made.network(moved)[0])
