"""One conversion from audit to finished dataset; what is known from an earlier run is not done again."""

from pathlib import Path

from dataset_conversion.brats.across import find_duplicates, with_shared_patients
from dataset_conversion.brats.check import check_files
from dataset_conversion.brats.dataset import (
    Options,
    check_splits,
    dataset_json,
    write_cases,
    write_json,
    write_skipped,
)
from dataset_conversion.brats.discovery import Case, Tree
from dataset_conversion.brats.output import say
from dataset_conversion.brats.problem import Problem
from dataset_conversion.brats.record import Record, fingerprint
from dataset_conversion.brats.splits import FOLDS, Split, choose_test, make_splits
from dataset_conversion.brats.steps import Step, steps_of
from dataset_conversion.brats.survival import read_survival
from dataset_conversion.brats.targets import rows_of, texts_of, write_targets
from dataset_conversion.brats.telling import tell_found, tell_problems, tell_warnings
from dataset_conversion.brats.work import Auditor, Writer
from dataset_conversion.brats.workers import in_threads

OTHER = "remove {} to make it anew, or choose another --dataset-id."


class Conversion:
    """Converts ``tree`` into the folder ``target`` with ``jobs`` threads."""

    def __init__(self, tree: Tree, options: Options, target: Path, jobs: int) -> None:
        self.tree, self.options, self.target = tree, options, target
        self.last = target / ("dataset.json" if options.labelled else "cases.csv")  # of all files to be written
        self.jobs = jobs
        self.survival, self.bad_cells = read_survival(tree.tables, tree.cases)
        self.previous = self._previous()
        self.record = Record(options.as_json())
        self.changed: set[str] = set()

    def run(self, *, link: bool, dry_run: bool, skip_bad: bool, allow_duplicates: bool) -> int:
        """Audit, then write unless there are problems; return the command's exit code."""
        tell_found(self.tree, self.options.file_ending)
        self._audit()
        problems = self._problems(allow_duplicates)
        bad = {problem.case for problem in problems}
        good = {name: case for name, case in self.tree.cases.items() if name not in bad}
        if problems:
            tell_problems(problems)
        if not good or (problems and not skip_bad):
            say("Nothing was written." + (" --skip-bad converts the other cases." if good else ""))
            return 1
        tell_warnings(good, self.record.reports)
        if self.previous:
            self._refuse_other_cases(set(self.previous.written), set(good))
        test, splits = self._divide(good)
        if dry_run:
            say(f"Would write {len(good) - len(test)} + {len(test)} cases into {self.target}; nothing was written.")
            return 0
        self.record.written = sorted(good)
        self._write(good, test, link)
        self._finish(good, test, splits, problems)
        return 0

    def _problems(self, allow_duplicates: bool) -> list[Problem]:
        """All problems: of the tree, of each case, between cases."""
        duplicates = find_duplicates(self.record.reports)
        if allow_duplicates:
            for duplicate in duplicates:
                say(f"Converted all the same: {duplicate.case} {duplicate.file} {duplicate.text}.")
            duplicates = []
        return [*self.tree.troubles, *self.bad_cells, *self.record.problems(self.tree.cases), *duplicates]

    def _previous(self) -> Record | None:
        """Record of an earlier run; ValueError if the folder holds another dataset than this run would make."""
        record = Record.read(self.target)
        advice = OTHER.format(self.target)
        if record is None:
            if self.target.exists() and any(path.suffix != ".tmp" for path in self.target.iterdir()):
                raise ValueError(f"{self.target} was not made by this converter; {advice}")
            return None
        for option, value in self.options.as_json().items():
            if record.options[option] != value:
                there = record.options[option]
                raise ValueError(f"{self.target} was made with {option} {there}, not {value}; {advice}")
        self._refuse_other_cases(set(record.reports), set(self.tree.cases))
        return record

    def _refuse_other_cases(self, there: set[str], here: set[str]) -> None:
        if there != here:
            example = sorted(there ^ here)[0]
            raise ValueError(
                f"{self.target} has other cases ({len(there)}) than the source ({len(here)}), such as {example}; "
                + OTHER.format(self.target)
            )

    def _audit(self) -> None:
        """Fill the record: what the earlier run found about untouched sources, and audits of the others."""
        pending: list[Case] = []
        for name, case in self.tree.cases.items():
            self.record.fingerprints[name] = fingerprint(case)
            untouched = self.previous and self.previous.fingerprints[name] == self.record.fingerprints[name]
            if self.previous and not untouched:
                self.changed.add(name)
            if self.previous and untouched and self.previous.current:
                self.record.reports[name] = self.previous.reports[name]
            else:
                pending.append(case)
        if pending:
            reports = in_threads(Auditor(self.tree), pending, self.jobs, "audit")
            for case, report in zip(pending, reports, strict=True):
                problems = [*check_files(case, self.tree), *report.problems]
                self.record.reports[case.name] = report._replace(problems=problems)

    def _divide(self, good: dict[str, Case]) -> tuple[set[str], list[Split]]:
        """Cases kept for testing, and the splits of the others; ValueError if other splits are in use."""
        if not self.options.labelled:
            return set(good), []
        fraction = self.options.test_fraction
        good = with_shared_patients(good, self.record.reports)
        test = choose_test(good, fraction)
        if fraction and not test:
            raise ValueError(
                f"--test-fraction {fraction} of these patients is less than one; give more or leave it out."
            )
        training = {name: case for name, case in good.items() if name not in test}
        if not training:
            raise ValueError(f"--test-fraction {self.options.test_fraction} leaves no patient to train with.")
        splits = make_splits(training, len({good[name].patient for name in test}))
        check_splits(self.target, splits)
        return test, splits

    def _write(self, good: dict[str, Case], test: set[str], link: bool) -> None:
        """Write what is missing of the cases' files; a changed source's files are written again."""
        plan = [self._steps(case, "Ts" if name in test else "Tr") for name, case in good.items()]
        if self.changed:
            self.last.unlink(missing_ok=True)
        for step in (step for steps in plan for step in steps if step.case in self.changed):
            step.target.unlink(missing_ok=True)
        self.target.mkdir(parents=True, exist_ok=True)
        self.record.write(self.target)
        for folder in {step.target.parent for steps in plan for step in steps}:
            folder.mkdir(exist_ok=True)
        pending = [rest for steps in plan if (rest := [step for step in steps if not step.done(link)])]
        if not pending:
            return
        writer = Writer(self.tree.edition, self.options.clip_percentiles, link)
        linked = list(in_threads(writer, pending, self.jobs, "write"))
        if link and not all(linked):
            say("Hard links are not possible here (another file system or owner?): files were copied.")

    def _steps(self, case: Case, part: str) -> list[Step]:
        images, labels = (self.target / f"{kind}{part}" for kind in ("images", "labels"))
        return steps_of(case, self.tree.edition, self.record.reports[case.name], self.options, images, labels)

    def _finish(self, good: dict[str, Case], test: set[str], splits: list[Split], problems: list[Problem]) -> None:
        """Write the tables and, last, ``dataset.json``: nnU-Net sees a whole dataset or none."""
        tables = [self.target / "cases.csv", *([self.target / "splits_final.json"] if splits else []), self.last]
        self._write_targets(good, test)
        if all(path.exists() for path in tables):
            say(f"{self.target} is complete.")
            return
        if problems:
            write_skipped(self.target, problems)
        write_cases(self.target, good, self.record.reports, test, self.tree.edition)
        if self.options.labelled:
            if splits:
                write_json(self.target / "splits_final.json", splits)
            write_json(
                self.last, dataset_json(self.target.name, self.tree.edition, self.options, len(good) - len(test))
            )
        self._say_what_is_there(len(good), len(test), splits)

    def _write_targets(self, good: dict[str, Case], test: set[str]) -> None:
        """Write what is known of whole cases; what somebody has changed since stays."""
        if not self.options.labelled:
            return
        cases = with_shared_patients(good, self.record.reports)
        for name in write_targets(self.target, texts_of(rows_of(cases, test, self.survival))):
            say(f"{self.target / name} is not what the source says and stays; remove it to have it written anew.")

    def _say_what_is_there(self, good: int, test: int, splits: list[Split]) -> None:
        say(f"{self.target}: {good - test} cases in imagesTr, {test} in imagesTs")
        if self.changed:
            say(f"{len(self.changed)} sources had changed: audited and written again. Preprocess the dataset again.")
        if not self.options.labelled:
            say(f"Segment it with nnUNetv2_predict -i {self.target / 'imagesTs'}")
        elif len(splits) == FOLDS + 1:
            say(f"Splits: {FOLDS} folds, and fold {FOLDS} is one hold-out split with 10 % for validation.")
        elif splits:
            say(f"Splits: fewer than {FOLDS} patients, so leave-one-out: folds 0 to {len(splits) - 1}.")
        else:
            say("Splits: one patient can only be trained with fold all.")
