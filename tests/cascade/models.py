"""Untrained models of a tiny dataset in nnU-Net's own layout, and volumes for them."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_ext.cascade.predictor import nnUNetCascadePredictor
from nnunet_ext.cascade.settings import CascadeSettings
from nnunet_ext.planning.roi import with_cascade
from nnunet_ext.trainers.building import network_builder
from nnunet_ext.trainers.detector import whole_tumor_only
from tests.trainers import workspace

CHANNELS = len(workspace.FOUR)
CPU = torch.device("cpu")
SEGMENTATION = "nnUNetTrainer_UNet3D_XS_CoordConv"
PLAIN = "nnUNetTrainer_UNet3D_XS"
DETECTOR = "nnUNetTrainer_ROIMobileUNETR3D_Tiny"
PATCH = (16, 16, 16)
ROI_SIZE = (16, 16, 16)
LABELS = {"background": 0, "edema": 1, "core": 2}
ONE_LABEL = {"background": 0, "tumor": 1}


def plans(shapes=((40, 36, 44),)):
    """The tiny plans with the cascade's two configurations."""
    fingerprint = {"shapes_after_crop": shapes, "spacings": [[1.0] * 3] * len(shapes)}
    return with_cascade(workspace.plans(len(workspace.FOUR)), fingerprint, ROI_SIZE, PATCH)


def dataset_json(labels=None):
    """With BraTS's regions, or with plain labels."""
    found = workspace.dataset_json(workspace.FOUR)
    if labels:
        found["labels"] = labels
        del found["regions_class_order"]
    return found


def write(root: Path, name, configuration, *, labels=None, folds=(0,), mirrored=(0, 1, 2), changes=None):
    """A model folder with random weights; returns it."""
    made = {**plans(), **(changes or {})}
    dataset = dataset_json(labels)
    dataset = whole_tumor_only(dataset) if "ROI" in name else dataset
    folder = root / made["dataset_name"] / f"{name}__nnUNetPlans__{configuration}"
    folder.mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(made))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    manager = PlansManager(made)
    heads = manager.get_label_manager(dataset).num_segmentation_heads
    for seed, fold in enumerate(folds):
        torch.manual_seed(seed)
        build = network_builder(name)
        planned = manager.get_configuration(configuration)
        channels = determine_num_input_channels(manager, planned, dataset)
        network = build(planned, channels, heads, deep_supervision=False)
        for p in network.parameters():  # initial weights give logits near zero
            torch.nn.init.normal_(p, std=0.3)
        (folder / f"fold_{fold}").mkdir()
        saved = {
            "network_weights": network.state_dict(),
            "trainer_name": name,
            "init_args": {"configuration": configuration},
            "inference_allowed_mirroring_axes": mirrored,
        }
        torch.save(saved, folder / f"fold_{fold}" / "checkpoint_final.pth")
    return folder


class Given(nnUNetCascadePredictor):
    """The cascade with a detector's answer that the test chooses: ``roi``, (Z, Y, X), bool."""

    roi = None

    def tumor_probability(self, data):
        return torch.from_numpy(self.roi.astype(np.float32))


def predictor(segmentation, detector, *, roi=None, mirroring=False, folds=(0,), **settings):
    """A cascade of two model folders; with ``roi`` the detector's answer is that."""
    chosen = CascadeSettings(**{"crop_size": PATCH, "margin_mm": 0, "min_component_ml": 0, **settings})
    made = (nnUNetCascadePredictor if roi is None else Given)(
        use_mirroring=mirroring, device=CPU, allow_tqdm=False, settings=chosen
    )
    made.roi = roi
    made.initialize_from_trained_model_folder(str(segmentation), folds)
    made.initialize_detector_from_trained_model_folder(str(detector), (0,))
    return made


def volume(shape, seed=0, *, coordinates=True):
    """A preprocessed volume (C + 3, Z, Y, X) as CoordConv's preprocessor gives it."""
    image = torch.randn((CHANNELS, *shape), generator=torch.Generator().manual_seed(seed))
    axes = [torch.linspace(1, 3, n) if n > 1 else torch.tensor([2.0]) for n in shape]
    field = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    return torch.cat([image, field]) if coordinates else image


def mask(shape, *boxes):
    """Tumour in boxes of ((start, stop), ...)."""
    found = np.zeros(shape, bool)
    for box in boxes:
        found[tuple(slice(*ends) for ends in box)] = True
    return found


def write_case(folder: Path, name="case", shape=(22, 20, 18), affine=None, seed=3):
    """Four modalities of a brain that does not fill its image; returns (C, Z, Y, X)."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    image = rng.normal(5, 1, (CHANNELS, *shape)).astype(np.float32)
    brain = np.zeros(shape, bool)
    brain[3:-2, 1:-3, 2:-1] = True
    image[:, ~brain] = 0
    for channel, one in enumerate(image):
        nib.save(
            nib.Nifti1Image(one.transpose(2, 1, 0), np.eye(4) if affine is None else affine),
            folder / f"{name}_{channel:04d}.nii.gz",
        )
    return image
