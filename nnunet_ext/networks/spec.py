"""What a network is, as plain data. Nothing here imports torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nnunet_ext.networks.tasks import SEGMENTATION, Task

SIZES = ("XS", "S", "M", "L")
DEFAULT_SIZE = "S"
COORDINATES = 3  # channels that coordinates add, in 2D as well
MODALITIES = ("t1", "t1ce", "t2", "flair")
POOLING = ("scales", "poolings")  # what of ``NetworkSpec.head`` is about the encoder's maps


def doubling(smallest: int, sizes: tuple[str, ...] = SIZES) -> Mapping[str, int]:
    """Width of the first stage per size; each size doubles it."""
    return {size: smallest * 2**i for i, size in enumerate(sizes)}


SINGLE_WIDTHS = doubling(16)
BRANCH_WIDTHS = doubling(8)


@dataclass(frozen=True)
class Stage:
    """One kind of encoder stage: ``path`` below ``nnunet_ext.networks`` and the options of its constructor."""

    path: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Branch:
    """An encoder branch: which modalities it reads and the stages it is made of.

    ``stages`` names stages 1, 2, ... of the network; stages beyond the last named one are like it, and where the
    plan has fewer stages the named ones are the last.
    """

    modalities: tuple[str, ...]
    stages: tuple[Stage, ...]


@dataclass(frozen=True)
class NetworkSpec:
    """Declaration of one family.

    Attributes:
        name: registry name.
        trainer: network part of the trainer's name, ``nnUNetTrainer_<trainer>``.
        description: what it is, for tables.
        network: dotted path of the class, below ``nnunet_ext.networks`` where it does not name the package.
        widths: size name -> channels of the first stage (of one branch).
        options: further keyword arguments of the class, the same for every size.
        size_options: size name -> keyword arguments that differ by size, for families with tables of their own.
        branches: the branches before the fusion; empty for a network with a single encoder.
        dimensions: spatial dimensions the family is meant for.
        divisor: the channel counts of every stage must be a multiple of it.
        input_size: the only input size (z, y, x) the family takes, or None if it takes any that the strides allow.
        usual_size: the input size (z, y, x) it is meant for where that is not nnU-Net's patch; cost tables show it.
        task: what it is trained for; a detector's dataset is {background, whole tumor}.
        head: of a network for case-level targets: ``scales`` (so many of the last maps are pooled), ``poolings`` (how),
            ``hidden`` and ``dropout`` (of a perceptron before the heads).
        recipe: fields of the training recipe in which the family differs from nnU-Net's.
        recipe_source: where their values were published, as (text, link) pairs.
        compile: whether torch.compile is proven to work for it.
        paper: the sources as (text, link) pairs.
        differs: deliberate differences from the papers.
    """

    name: str
    trainer: str
    description: str
    network: str = "unet.BranchUNet"
    widths: Mapping[str, int] = field(default_factory=lambda: BRANCH_WIDTHS)
    options: Mapping[str, Any] = field(default_factory=dict)
    size_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    branches: tuple[Branch, ...] = ()
    dimensions: tuple[int, ...] = (2, 3)
    divisor: int = 1
    input_size: tuple[int, ...] | None = None
    usual_size: tuple[int, ...] | None = None
    task: Task = SEGMENTATION
    head: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    recipe_source: tuple[tuple[str, str], ...] = ()
    compile: bool = False
    paper: tuple[tuple[str, str], ...] = ()
    differs: str = ""

    @property
    def detector(self) -> bool:
        """Whether it is trained to find the whole tumour only."""
        return self.task.whole_tumor

    @property
    def pooling(self) -> dict[str, Any]:
        """How a network for case-level targets pools its encoder's maps."""
        return {name: value for name, value in self.head.items() if name in POOLING}

    @property
    def perceptron(self) -> dict[str, Any]:
        """What a network for case-level targets has before its heads; nothing if they are linear."""
        return {name: value for name, value in self.head.items() if name not in POOLING}

    @property
    def sizes(self) -> tuple[str, ...]:
        """Names of the sizes, smallest first."""
        return tuple(self.widths)

    @property
    def shown_size(self) -> tuple[int, ...] | None:
        """The input size for cost tables, or None for that of nnU-Net's plan."""
        return self.usual_size or self.input_size

    def channels(self, image: int) -> int:
        """Input channels for so many of the image: the recipe may add coordinates."""
        return image + COORDINATES * bool(self.recipe.get("coordinates"))

    def outputs(self, regions: int) -> int:
        """Logit maps for a dataset of so many regions: a detector has one."""
        return 1 if self.detector else regions

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities in the order in which the branches read them; empty if every channel is read alike."""
        return tuple(m for branch in self.branches for m in branch.modalities)
