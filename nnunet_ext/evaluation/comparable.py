"""Whether trainings can be compared at all, told before any of them is evaluated."""

from collections import defaultdict
from collections.abc import Sequence

from nnunet_ext.evaluation.finding import files, read_dataset_json
from nnunet_ext.evaluation.regions import Scheme, scheme_of_dataset
from nnunet_ext.evaluation.runs import Run


def check(runs: Sequence[Run]) -> None:
    """Refuses (ValueError) trainings of different regions, and folds of which no case is everybody's."""
    first = _scheme(runs[0])
    for run in runs[1:]:
        own = _scheme(run)
        if (own.labels, own.regions) != (first.labels, first.regions):
            raise ValueError(
                f"{runs[0].method} has the regions {', '.join(first.regions)} and {run.method} "
                f"{', '.join(own.regions)}, or other labels of them; compare trainings that segment the same."
            )
    of_fold: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        of_fold[run.fold].append(run)
    for fold, same in of_fold.items():
        _check_cases(fold, same)


def _scheme(run: Run) -> Scheme:
    return scheme_of_dataset(read_dataset_json(run.folder.parent / "dataset.json"))


def _check_cases(fold: str, runs: Sequence[Run]) -> None:
    predicted = [set(files(run.predictions)) for run in runs]
    if not set.intersection(*predicted):
        told = ", ".join(f"{run.method} has {min(cases)}" for run, cases in zip(runs, predicted, strict=True))
        raise ValueError(
            f"No case of fold {fold} was predicted by every training ({told}, for example); compare trainings with the "
            f"same splits."
        )
