"""What a network is trained for, as plain data. Nothing here imports torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """One kind of target.

    Attributes:
        name: for messages and words of trainer names.
        answers: what the network gives for a case.
        whole_tumor: whether its labels are background and whole tumour alone, whatever labels the dataset has.
        decodes: whether its maps are decoded to the input's resolution; else they are pooled for heads.
        trainer: dotted path of the trainer that its trainers are subclasses of.
        command: which command predicts with it.
        joint_trainer: the same where the network segments beside it; empty where it segments anyway.
    """

    name: str
    answers: str
    whole_tumor: bool
    decodes: bool
    trainer: str
    command: str
    joint_trainer: str = ""


SEGMENTATION = Task(
    name="segmentation",
    answers="a label or region for each voxel",
    whole_tumor=False,
    decodes=True,
    trainer="nnunet_ext.trainers.base.ExtTrainer",
    command="nnUNetv2_predict",
)
DETECTION = Task(
    name="detection",
    answers="whether a voxel is of the tumour, for the cascade's region of interest",
    whole_tumor=True,
    decodes=True,
    trainer="nnunet_ext.trainers.base.ExtTrainer",
    command="nnunet_ext_predict_cascade",
)
CASE_LEVEL = Task(
    name="case-level",
    answers="a level or a number for the case and each column of targets.json",
    whole_tumor=False,
    decodes=False,
    trainer="nnunet_ext.outcomes.trainer.CaseTrainer",
    command="nnunet_ext predict-cases",
    joint_trainer="nnunet_ext.outcomes.joint.JointTrainer",
)
TASKS = (SEGMENTATION, DETECTION, CASE_LEVEL)
