"""The external test: cases and patients that no network of the comparison has been trained or validated with.

``predict-cases`` knows a case by its images and, where it was given a table, by the columns of it that tell who is one
patient. These are compared with the dataset's own.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace

from nnunet_ext.outcomes.combining import refuse_overlap
from nnunet_ext.outcomes.gathering import Source, Surroundings
from nnunet_ext.outcomes.honest import Fold
from nnunet_ext.outcomes.results import TEST, Results
from nnunet_ext.outcomes.sentences import listed
from nnunet_ext.outcomes.targets import bound

ALL = "all"
"""nnU-Net's name of a training with all cases."""
Marks = Mapping[str, Sequence[Hashable]]
"""Case -> pairs of a column and its value, of which two cases of one patient share one."""


def admitted(tests: Sequence[Source], sources: Sequence[Source], around: Surroundings) -> list[Source]:
    """The sources of an external test with the patients of their cases.

    Args:
        tests: of the external test.
        sources: of the trainings.
        around: what is known beside the predictions.

    Raises:
        ValueError: a case with a truth, or its patient, is one that was trained or validated with.
    """
    dataset, seen = _marks_of_dataset(sources, around), _seen(sources, around)
    return [_admitted(test, dataset, seen, around) for test in tests]


def _admitted(test: Source, dataset: Marks, seen: Sequence[str], around: Surroundings) -> Source:
    own = _marks_of_test(test.results, around)
    leader = bound({**dataset, **{case: own[case] for case in sorted(own) if case not in dataset}})
    table = test.results.table
    judged = table[table["truth"] != ""]["case"]
    refuse_overlap({case: leader[case] for case in seen}, {case: leader[case] for case in judged})
    named = replace(test.results, table=table.assign(patient=table["case"].map(leader)))
    alone = around.targets is not None and not around.targets.schema.groups  # then each case is declared to be one
    unnamed = [] if alone else [case for case in own if case not in dataset and not own[case]]
    return replace(test, results=named, unnamed=tuple(sorted(unnamed)))


def _marks_of_dataset(sources: Sequence[Source], around: Surroundings) -> Marks:
    """Of all cases of targets.csv; without it, what the trainings' validation noted."""
    found: dict[str, Sequence[Hashable]] = {case: () for case in _seen(sources, around)}
    targets = around.targets
    if targets is None:
        tables = [source.results.table for source in sources]
        pairs = (pair for table in tables for pair in zip(table["case"], table["patient"], strict=True))
        return found | {case: (("patient", patient),) for case, patient in pairs}
    groups = targets.schema.groups
    return found | {case: [(name, row[name]) for name in groups] for case, row in targets.rows.items()}


def _marks_of_test(results: Results, around: Surroundings) -> Marks:
    """What the table of a prediction tells of each case; a patient that is called as the case is none that was told."""
    groups = around.targets.schema.groups if around.targets else ()
    names = [name for name in dict.fromkeys((*groups, *results.groups, "patient")) if name in results.table]
    rows = results.table.drop_duplicates("case").set_index("case", drop=False)
    return {
        str(case): [
            (name, row[name])
            for name in names
            if row[name] and (name != "patient" or name in results.groups or row[name] != case)
        ]
        for case, row in rows.iterrows()
    }


def _seen(sources: Sequence[Source], around: Surroundings) -> list[str]:
    """Cases that any network of the dataset's folds was trained with, or is validated with."""
    folds = [*(around.training or {}).values(), *(around.validated or {}).values()]
    if not folds and around.targets is not None:
        folds = [around.targets.training_cases]
    validated = (case for source in sources for case in source.results.table["case"])
    return sorted({*validated, *(case for cases in folds for case in cases)})


def around_test(around: Surroundings, folds: Sequence[Fold], tests: Sequence[Source]) -> Surroundings:
    """With the training cases of the networks that predicted the external test: the union of their folds'.

    Args:
        around: what is known of the dataset.
        folds: that are judged in cross-validation, where a prediction does not tell whose networks it is of.
        tests: the predictions.
    """
    told = {str(fold) for test in tests for fold in test.results.facts.get("folds", ())}
    names = told or {fold.name for fold in folds}
    training = dict(around.training or {})
    cases = [case for name in sorted(names) for case in training.get(name, ())]
    if ALL in names and around.targets is not None:
        cases = list(around.targets.training_cases)
    return replace(around, training={**training, TEST: tuple(dict.fromkeys(cases))})


def notes(tests: Sequence[Source], around: Surroundings) -> list[str]:
    """What is not known of the patients, in sentences."""
    found = []
    if unnamed := sorted({case for test in tests for case in test.unnamed}):
        found.append(
            f"The patients of the external test are unknown for {listed(unnamed)}: each case was taken as a patient of "
            "its own. predict-cases --targets tells them, by a table with the dataset's columns of patients."
        )
    if around.targets is None:
        found.append("Without the dataset's targets.csv nobody can tell whether a tested patient was trained with.")
    return found
