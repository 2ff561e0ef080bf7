import json
import subprocess
import sys

import pytest
import torch

from benchmarks.costs import peers
from benchmarks.costs.models import Input, choose
from benchmarks.costs.peers import PEERS, build_peer
from nnunet_ext.profiling.predict import predict

PATCH = (128, 128, 128)
# asks nnU-Net's planners in a process of their own, because nnU-Net reads its folders when it is imported
PLANNER = """
import json, sys
import numpy as np
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.experiment_planning.experiment_planners.residual_unets import residual_encoder_unet_planners as residual

found = {}
for name, planner in (
    ("nnunet_plain", ExperimentPlanner),
    ("nnunet_resenc_m", residual.nnUNetPlannerResEncM),
    ("nnunet_resenc_l", residual.nnUNetPlannerResEncL),
):
    spacing, median = np.ones(3), np.array([137, 168, 137])
    plan = planner("Dataset999_BraTS").get_plans_for_configuration(spacing, median, "", 1251 * median.prod(), {})
    arguments = {k: v for k, v in plan["architecture"]["arch_kwargs"].items() if k.startswith("n_")}
    found[name] = [[int(p) for p in plan["patch_size"]], plan["batch_size"], arguments]
print(json.dumps(found))
"""


def count(name: str) -> tuple[int, int]:
    (model,) = choose([name], Input(patch=PATCH, batch=1))
    with torch.device("meta"):
        network = model.build()
    cost = predict(network, (1, 4, *PATCH))
    return cost.parameters, cost.macs


def test_nnunets_own_network_has_its_published_counts():
    parameters, macs = count("nnunet_plain")
    assert parameters == 31_198_991
    assert round(macs / 1e9, 1) == 482.7


@pytest.mark.parametrize(("size", "gmacs"), [("s", 127.58), ("b", 165.79), ("m", 242.68), ("l", 492.46)])
def test_mednext_has_its_counts(size, gmacs):
    assert count(f"monai_mednext_{size}")[1] / 1e9 == pytest.approx(gmacs, abs=0.01)


def test_swinunetr_of_one_channel_has_exactly_its_parameters():
    with torch.device("meta"):
        network = build_peer(PEERS["monai_swinunetr_48"], 1, 1, PATCH)
    assert sum(p.numel() for p in network.parameters()) == 62_186_659


@pytest.mark.slow
def test_nnunets_networks_are_those_of_its_planners(tmp_path):
    dataset = tmp_path / "raw" / "Dataset999_BraTS"
    for folder in (dataset / "imagesTr", dataset / "labelsTr", tmp_path / "preprocessed" / dataset.name):
        folder.mkdir(parents=True)
    labels = {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [1, 3], "enhancing tumor": 3}
    channels = {str(i): name for i, name in enumerate(("T1", "T1ce", "T2", "FLAIR"))}
    description = {"channel_names": channels, "labels": labels, "numTraining": 0, "file_ending": ".nii.gz"}
    (dataset / "dataset.json").write_text(json.dumps(description), encoding="utf-8")
    fingerprint = tmp_path / "preprocessed" / dataset.name / "dataset_fingerprint.json"
    seen = {"spacings": [[1, 1, 1]], "shapes_after_crop": [[137, 168, 137]], "median_relative_size_after_cropping": 0.3}
    fingerprint.write_text(json.dumps({**seen, "foreground_intensity_properties_per_channel": {}}), encoding="utf-8")
    folders = {"nnUNet_raw": "raw", "nnUNet_preprocessed": "preprocessed", "nnUNet_results": "results"}
    environment = {"PATH": "", "OMP_NUM_THREADS": "1", **{k: str(tmp_path / v) for k, v in folders.items()}}
    done = subprocess.run([sys.executable, "-c", PLANNER], env=environment, capture_output=True, text=True, check=True)
    planned = json.loads(done.stdout.splitlines()[-1])
    for name, (patch, batch, arguments) in planned.items():
        assert (list(PEERS[name].patch), PEERS[name].batch) == (patch, batch)
        if "n_blocks_per_stage" in arguments:
            assert list(PEERS[name].options["n_blocks_per_stage"]) == arguments["n_blocks_per_stage"]
            decoder = list(PEERS[name].options["n_conv_per_stage_decoder"])[: arguments["n_stages"] - 1]
            assert decoder == arguments["n_conv_per_stage_decoder"]


def test_monai_is_optional(monkeypatch):
    def absent(name: str):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(peers, "import_module", absent)
    with pytest.raises(ValueError, match=r'pip install "nnunet_ext\[peers\]"'):
        build_peer(PEERS["monai_segresnet"], 4, 3, PATCH)
