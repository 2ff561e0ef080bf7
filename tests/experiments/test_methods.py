"""Which trainings the trainers, patterns and words mean."""

import pytest

from nnunet_ext.experiments.file import sweep_of
from nnunet_ext.experiments.methods import methods_of

OTHERS = {"nnUNetTrainer_5epochs", "nnUNetTrainerUMambaBot"}


def found(trainers, **keys):
    return methods_of(sweep_of({"dataset": 501, "trainers": trainers, **keys}), OTHERS.__contains__)


def names(trainers, **keys):
    return [method.short for method in found(trainers, **keys).chosen]


def test_words_are_for_all_of_ours_and_no_others():
    methods = found("UNet3D nnUNetTrainer nnUNetTrainer_5epochs", words=["2epochs", "XS"], seeds=[4, 2])
    assert [method.trainer for method in methods.chosen] == [
        "nnUNetTrainer_UNet3D_XS_2epochs",
        "nnUNetTrainer",
        "nnUNetTrainer_5epochs",
    ]
    assert [method.seeds for method in methods.chosen] == [(4, 2), (None,), (None,)]
    assert [method.named(seed) for method in methods.chosen[:2] for seed in method.seeds] == [
        "nnUNetTrainer_UNet3D_XS_2epochs_seed4",
        "nnUNetTrainer_UNet3D_XS_2epochs_seed2",
        "nnUNetTrainer",
    ]


def test_words_of_patterns_and_names_replace_those_before():
    words = {"*": ["XS", "250epochs"], "UNet3D*": ["100epochs"], "UNet3DStride": ["AdamW"]}
    assert names("UNETR UNet3D UNet3DStride_M", words=words) == [
        "UNETR_XS_250epochs",
        "UNet3D_XS_100epochs",
        "UNet3DStride_M_AdamW_100epochs",
    ]


def test_wildcards_leave_out_what_they_cannot_mean_and_say_so():
    methods = found("*MobileUNETR* UNet3D*", words=["XS"], folds=[0])
    chosen = [method.parsed.spec.trainer for method in methods.chosen]
    assert chosen == ["MobileUNETR3D", "UNet3D", "UNet3DStride", "UNet3D2Modal", "UNet3D4Modal"]
    assert dict(methods.left_out) == {
        "nnUNetTrainer_MobileUNETR": "is no 3D network",
        "nnUNetTrainer_ROIMobileUNETR3D": "is a detector, for 3d_roi",
    }
    assert names("*MobileUNETR", configuration="2d") == ["MobileUNETR"]


def test_networks_for_cases_are_meant_by_case_alone():
    assert not [name for name in names("*") if name.startswith("Case")]
    methods = found("CaseResNet* CaseROI*", words=["2epochs"])
    assert [method.short for method in methods.chosen] == [
        "CaseResNet18_2epochs",
        "CaseResNet18SE_2epochs",
        "CaseResNet18MultiScale_2epochs",
    ]
    assert methods.case_level
    assert methods.left_out["nnUNetTrainer_CaseResNet50"] == "is no 3D network"
    assert (
        methods.left_out["nnUNetTrainer_CaseROIUNet3D"] == "is the encoder of a detector, whose size is always written"
    )
    assert names("CaseROIUNet3D_Tiny CaseUNETR_Balanced") == ["CaseROIUNet3D_Tiny", "CaseUNETR_Balanced"]
    assert not found("UNETR nnUNetTrainer").case_level


def test_a_wildcard_may_hold_what_is_named_as_well():
    assert names("UNet3DStride UNet3DS*") == ["UNet3DStride"]


@pytest.mark.parametrize(
    ("trainers", "keys", "told"),
    [
        ("UNet3DStrid", {}, "no trainer 'UNet3DStrid'; nearest: UNet3DStride"),
        ("unetr", {}, "nearest: UNETR"),
        ("nnUNetTrainer_DualBranchGost", {}, "nearest: DualBranchGhost"),
        ("nnUnetTrainer", {}, "nearest: nnUNetTrainer"),
        ("nnUNetTrainer_6epochs", {}, "no trainer 'nnUNetTrainer_6epochs'"),
        ("Tripple*", {}, "No trainer is like 'Tripple*'"),
        ("UNet3D UNet3D", {}, "nnUNetTrainer_UNet3D is there twice"),
        ("UNet3D UNet3D_S", {}, "is there twice (as UNet3D_S)"),
        ("UNet3D_SGD1en2 UNet3D", {}, "is there twice"),
        ("UNet3D", {"words": ["XS", "M"]}, "'XS' and 'M' both set the size"),
        ("UNet3D", {"words": ["cosine"]}, "unknown word 'cosine' (nearest: Cosine)"),
        ("UNet3D", {"words": ["seed3"]}, "seeds have a key of their own"),
        ("UNet3D_seed3", {}, "seeds have a key of their own"),
        ("UNet3D", {"words": {"UNETR": ["XS"]}}, "The words for 'UNETR' are for no trainer"),
        ("nnUNetTrainer", {"words": ["XS"]}, "are for no trainer of the experiment (none of ours)"),
        ("ROIUNet3D", {}, "size is always written; add Tiny or Small"),
        ("CaseResNet19", {}, "nearest: CaseResNet18"),
        (
            "CaseUNETR UNet3D",
            {},
            "CaseUNETR predicts case-level targets and UNet3D a segmentation; make a sweep of each",
        ),
        ("CaseUNETR nnUNetTrainer", {}, "CaseUNETR predicts case-level targets and nnUNetTrainer a segmentation"),
        ("CaseUNETR", {"words": ["NoDS"]}, "sets the deep supervision, which is for networks of"),
        ("ROI*", {}, "Nothing is left to train: nnUNetTrainer_ROIUNet3D is a detector"),
    ],
)
def test_what_cannot_be_meant_is_told(trainers, keys, told):
    with pytest.raises(ValueError, match=r"\w") as refused:
        found(trainers, **keys)
    assert told in str(refused.value)
