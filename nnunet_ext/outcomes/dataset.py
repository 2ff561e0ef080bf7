"""Whether a raw dataset of nnU-Net and its targets speak of the same cases and channels."""

from collections.abc import Iterable, Mapping

from nnunet_ext.outcomes.columns import SCHEMA_FILE, SET, TABLE_FILE
from nnunet_ext.outcomes.folds import check_part
from nnunet_ext.outcomes.tables import TEST
from nnunet_ext.outcomes.targets import Targets

SHOWN = 5  # names in a message


def check_dataset(targets: Targets, training: Iterable[str], test: Iterable[str], channels: Mapping[str, str]) -> None:
    """Refuse targets that do not fit the dataset.

    Args:
        targets: of the dataset.
        training: cases with images in imagesTr.
        test: cases with images in imagesTs.
        channels: channel_names of dataset.json: "0" -> name.

    Raises:
        ValueError: a case without a row, a row without a case, a case of the wrong set, a patient that is tested and
            trained with, an input of channels that there are not, or a target of which nothing can be learnt.
    """
    training, test = set(training), set(test)
    _check_cases(targets, training, test)
    _check_patients(targets)
    for name, numbers in targets.schema.inputs.items():
        absent = [number for number in numbers if str(number) not in channels]
        if absent:
            raise ValueError(
                f"{SCHEMA_FILE}, input {name!r} has the channel {absent[0]}, and dataset.json has 0 to "
                f"{len(channels) - 1}; mend it."
            )
    for column in targets.columns:
        check_part(targets, column, targets.training_cases, "the training cases")


def _check_cases(targets: Targets, training: set[str], test: set[str]) -> None:
    rows = set(targets.rows)
    _refuse(training - rows, f"imagesTr has cases without a row in {TABLE_FILE}; add rows, with empty cells if need be")
    _refuse(rows - training - test, f"{TABLE_FILE} has rows of cases without images; remove the rows or add the images")
    _refuse(
        set(targets.training_cases) - training,
        f"{TABLE_FILE} has rows of cases in imagesTs whose {SET} is not {TEST}; write {TEST} into that column",
    )
    _refuse(
        set(targets.test_cases) & training,
        f"{TABLE_FILE} has rows of cases in imagesTr whose {SET} is {TEST}; move the images or mend the rows",
    )


def _refuse(cases: set[str], sentence: str) -> None:
    if cases:
        names = sorted(cases)
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        raise ValueError(f"{sentence} ({', '.join(names[:SHOWN])}{more}).")


def _check_patients(targets: Targets) -> None:
    trained = {targets.groups[case]: case for case in targets.training_cases}
    leak = next((case for case in targets.test_cases if targets.groups[case] in trained), None)
    if leak is not None:
        raise ValueError(
            f"{leak} is kept for testing and {trained[targets.groups[leak]]} is trained with, and both are of one "
            "patient; put them on one side."
        )
