"""The work on one case, which processes share: finding what weights can change, and applying them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from batchgenerators.utilities.file_and_folder_operations import save_pickle
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from numpy.typing import NDArray

from nnunet_ext.ensembling import WRITTEN
from nnunet_ext.ensembling.outputs import Outputs
from nnunet_ext.ensembling.probabilities import Volume, merge, properties_of, read, shares_of
from nnunet_ext.ensembling.rules import candidates, score
from nnunet_ext.ensembling.scoring import Decisive, Weights
from nnunet_ext.evaluation import reading


@dataclass(frozen=True)
class Job:
    """A case of all models.

    Attributes:
        case: its name.
        files: one row a model, of the files that it averages.
        reference: its segmentation, or None.
        dataset, plans: of the first model, which say what channels mean and how files are read and written.
    """

    case: str
    files: tuple[tuple[Path, ...], ...]
    reference: Path | None
    dataset: dict[str, Any]
    plans: dict[str, Any]

    @property
    def outputs(self) -> Outputs:
        """What the channels mean."""
        return Outputs.of(self.dataset, self.plans)

    def volumes(self) -> Iterator[Volume]:
        """(C, Z, Y, X) of each model, one in memory at a time."""
        for own in self.files:
            # a network that lies in several files, one a fold, is their plain mean
            yield merge(map(read, own), [np.ones(1, np.float32)] * len(own))

    def truth(self) -> NDArray[np.integer]:
        """(Z, Y, X), the reference as nnU-Net's reader has it, the axes of which are those of the probabilities.

        Raises:
            ValueError: it cannot be read, does not fit, or has labels that the dataset does not have.
        """
        assert self.reference
        try:
            reading.check_whole(self.reference)
            labels = PlansManager(self.plans).image_reader_writer_class().read_seg(str(self.reference))[0][0]
        except (reading.UnreadableError, RuntimeError) as error:
            raise ValueError(f"The reference of {self.case} cannot be read: {str(error).splitlines()[-1]}") from error
        found: NDArray[np.integer] = labels.astype(np.int32)
        lowest = int(found.min(initial=0))
        foreign = [lowest] if lowest < 0 else self.outputs.scheme.foreign(reading.labels_in(found))
        if foreign:
            raise ValueError(f"{self.reference} has the label {foreign[0]}, which the dataset.json does not know.")
        return found


def decisive(job: Job, volumes: list[Volume]) -> Decisive:
    """What weights can change; ValueError where reference and probabilities differ in shape."""
    truth = job.truth()
    if volumes[0].shape[1:] != truth.shape:
        shapes = " and ".join(" x ".join(map(str, shape)) for shape in (truth.shape, volumes[0].shape[1:]))
        raise ValueError(f"{job.case}: reference and probabilities have the shapes {shapes} (z, y, x).")
    return Decisive.of(job.outputs, volumes, truth)


def prepare(work: tuple[Job, Path]) -> tuple[str, dict[str, NDArray[np.float64]]]:
    """Keeps what weights can change of a validation case in a folder; gives its name and the Dice of all candidates."""
    job, folder = work
    case = decisive(job, list(job.volumes()))
    case.save(folder / f"{job.case}.npz")
    return job.case, score(job.outputs, case, candidates(len(job.files)))


def apply(
    work: tuple[Job, Path, Mapping[str, Weights], bool],
) -> tuple[str, dict[str, NDArray[np.float64]]]:
    """Writes a test case; gives its name and, where there is a reference, rule -> Dice (T,).

    Args:
        work: the case, the output folder, rule (and what is written) -> weights (M, C), whether probabilities are
            written as well.
    """
    job, folder, weights, keep = work
    shares = shares_of(weights[WRITTEN])[:, :, None, None, None]
    if job.reference is None:
        write(job, merge(job.volumes(), shares), folder, keep=keep)
        return job.case, {}
    volumes = list(job.volumes())
    case = decisive(job, volumes)
    write(job, merge(volumes, shares), folder, keep=keep)
    return job.case, {name: case.dice(job.outputs, own) for name, own in weights.items()}


def write(job: Job, probabilities: Volume, folder: Path, *, keep: bool) -> None:
    """The label map of a case as nnU-Net writes it, and its probabilities where they are kept; all whole or not at all.

    Several files may belong together (nnU-Net's writer of TIFF adds a JSON file), so they are made in a folder of
    their own.
    """
    properties = properties_of(job.files[0][0])
    with TemporaryDirectory(prefix=f".{job.case}-", dir=folder) as scratch:
        stem = Path(scratch, job.case)
        writer = PlansManager(job.plans).image_reader_writer_class()
        writer.write_seg(job.outputs.label_map(probabilities), f"{stem}{job.dataset['file_ending']}", properties)
        if keep:
            np.savez_compressed(f"{stem}.npz", probabilities=probabilities)
            save_pickle(properties, f"{stem}.pkl")
        for path in sorted(Path(scratch).iterdir()):
            path.replace(folder / path.name)
