"""nnU-Net's ways to predict, with threads where nnU-Net starts processes: each of those imports torch again."""

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice, repeat
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from joblib import cpu_count
from nnunetv2.configuration import default_num_processes
from nnunetv2.inference.data_iterators import PreprocessAdapter, PreprocessAdapterFromNpy
from nnunetv2.inference.export_prediction import (
    convert_predicted_logits_to_segmentation_with_correct_shape,
    export_prediction_from_logits,
)
from nnunetv2.inference.sliding_window_prediction import compute_gaussian
from nnunetv2.utilities.helpers import empty_cache
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager
from numpy.typing import NDArray

from nnunet_ext.cascade.checks import check_channels
from nnunet_ext.cascade.report import NO_CASE, CaseReport, summarise
from nnunet_ext.images.folder import cases_of, check_channel_numbers
from nnunet_ext.images.verify import check_image

LOG = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")


class CasesFailedError(ValueError):
    """Some cases could not be segmented; all others are.

    Args:
        reasons: case -> a sentence.
    """

    def __init__(self, reasons: Mapping[str, str]) -> None:
        self.reasons = dict(reasons)
        told = "".join(f"\n  {case}: {reason}" for case, reason in reasons.items())
        super().__init__(f"{len(reasons)} cases failed and have no segmentation:{told}")


def ahead(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """The results in order, so many of them computed ahead; without workers each when it is asked for.

    Written here because ``Executor.map`` takes all items at once before Python 3.14, and a case needs memory.
    """
    if workers < 1:
        yield from map(function, items)
        return
    left = iter(items)
    with ThreadPoolExecutor(workers) as pool:
        pending = deque(pool.submit(function, item) for item in islice(left, workers))
        while pending:
            result = pending.popleft().result()
            pending.extend(pool.submit(function, item) for item in islice(left, 1))
            yield result


class ThreadedPrediction:
    """Reading, preprocessing and export of a predictor, in threads. A mixin ahead of ``nnUNetPredictor``.

    Numbers of processes are numbers of threads; with 0 everything runs in turn.
    """

    # nnU-Net's
    plans_manager: Any
    configuration_manager: Any
    dataset_json: Any
    label_manager: Any
    device: torch.device
    verbose_preprocessing: bool
    predict_logits_from_preprocessed_data: Any
    predict_from_files: Any
    reports: list[CaseReport]
    failures: dict[str, str]
    case: str

    def _manage_input_and_output_lists(self, source: str | list[list[str]], *others: Any, **further: Any) -> Any:
        """As nnU-Net's, whose own list of a folder takes any file of the ending for an image."""
        if isinstance(source, str):
            cases = cases_of(Path(source), self.dataset_json["file_ending"])
            source = [[*map(str, files)] for files in cases.values()]
        return super()._manage_input_and_output_lists(source, *others, **further)  # type: ignore[misc]

    def predict_from_files_sequential(
        self,
        list_of_lists_or_source_folder: str | list[list[str]],
        output_folder_or_list_of_truncated_output_files: str | list[str] | None,
        save_probabilities: bool = False,
        overwrite: bool = True,
        folder_with_segs_from_prev_stage: str | None = None,
    ) -> Any:
        """As nnU-Net's: one step after the other."""
        return self.predict_from_files(
            list_of_lists_or_source_folder,
            output_folder_or_list_of_truncated_output_files,
            save_probabilities,
            overwrite,
            0,
            0,
            folder_with_segs_from_prev_stage,
        )

    def _internal_get_data_iterator_from_lists_of_filenames(
        self,
        input_list_of_lists: list[list[str]],
        seg_from_prev_stage_files: list[str] | None,
        output_filenames_truncated: list[str] | None,
        num_processes: int,
    ) -> Iterator[dict]:
        count = len(input_list_of_lists)
        previous: list[Any] = list(seg_from_prev_stage_files or repeat(None, count))
        outputs: list[Any] = list(output_filenames_truncated or repeat(None, count))
        workers = min(num_processes, count, cpu_count())
        # the cascade exchanges its configuration while it works on a case; the threads keep this one
        preprocess = partial(self._preprocess, self.configuration_manager)
        return ahead(preprocess, zip(input_list_of_lists, previous, outputs, strict=True), workers)

    def _preprocess(self, configuration: ConfigurationManager, case: tuple[list[str], Any, Any]) -> dict:
        """A case, or why it has none: the others go on."""
        try:
            return self._read_case(configuration, *case)
        except ValueError as error:
            return {"ofile": case[2], "failure": error}

    def _read_case(self, configuration: ConfigurationManager, files: list[str], previous: Any, output: Any) -> dict:
        start = time.perf_counter()
        self._check_files(files, previous)
        preprocessor = configuration.preprocessor_class(verbose=self.verbose_preprocessing)
        managers = (self.plans_manager, self.dataset_json, configuration)
        try:
            item: dict = next(PreprocessAdapter([files], [previous], preprocessor, [output], *managers))
        except RuntimeError as error:  # of the readers, for files that are no images or do not fit together
            reason = error if str(error) else "they differ in shape, spacing or orientation; nnU-Net says more above"
            raise ValueError(f"{files[0]} and its other modalities cannot be read: {reason}") from error
        return {**item, "seconds": time.perf_counter() - start}

    def _check_files(self, files: list[str], previous: str | None) -> None:
        check_channels(len(files), self, f"The case {Path(files[0]).name}")
        paths = [*map(Path, files)]
        check_channel_numbers(paths, self.dataset_json["file_ending"])
        if previous and not Path(previous).is_file():
            raise ValueError(f"The segmentation of the previous stage {previous} does not exist.")
        for path in (*paths, *([Path(previous)] if previous else [])):
            check_image(path)

    def predict_single_npy_array(
        self,
        input_image: NDArray[Any],
        image_properties: dict,
        segmentation_previous_stage: NDArray[Any] | None = None,
        output_file_truncated: str | None = None,
        save_or_return_probabilities: bool = False,
    ) -> Any:
        """As nnU-Net's; input (C, Z, Y, X)."""
        check_channels(len(input_image), self, "The array")
        case = ([input_image], [segmentation_previous_stage], [image_properties], [output_file_truncated])
        managers = (self.plans_manager, self.dataset_json, self.configuration_manager)
        items = PreprocessAdapterFromNpy(*case, *managers, verbose=self.verbose_preprocessing)
        (found,) = self.predict_from_data_iterator([next(items)], save_or_return_probabilities, 0)
        return found

    def get_data_iterator_from_raw_npy_data(
        self, image_or_list_of_images: NDArray[Any] | list[NDArray[Any]], *others: Any, **further: Any
    ) -> Iterator[dict]:
        """As nnU-Net's, whose worker processes preprocess arrays; input (C, Z, Y, X)."""
        images = image_or_list_of_images if isinstance(image_or_list_of_images, list) else [image_or_list_of_images]
        for image in images:
            check_channels(len(image), self, "An array")
        return super().get_data_iterator_from_raw_npy_data(images, *others, **further)  # type: ignore[misc]

    def predict_from_data_iterator(
        self,
        data_iterator: Iterable[dict],
        save_probabilities: bool = False,
        num_processes_segmentation_export: int = default_num_processes,
    ) -> list[Any]:
        """As nnU-Net's; the segmentations are returned where no files are named.

        Raises:
            CasesFailedError: cases that are written to files and cannot be segmented, when all others are done.
        """
        self.failures = {}
        workers = min(num_processes_segmentation_export, cpu_count())
        folders: set[Path] = set()
        try:
            with ThreadPoolExecutor(max(1, workers)) as pool:
                results = [*self._results(data_iterator, save_probabilities, pool, workers, folders)]
        finally:  # what is done is told, even if a later case cannot be read
            for folder in folders:
                summarise(folder)
            compute_gaussian.cache_clear()
            empty_cache(self.device)
        if self.failures:
            raise CasesFailedError(self.failures)
        return results

    def _results(
        self,
        items: Iterable[dict],
        probabilities: bool,
        pool: ThreadPoolExecutor,
        workers: int,
        folders: set[Path],
    ) -> Iterator[Any]:
        """Results in order; so many may be on their way out while the next case is predicted."""
        waiting: deque[Future[Any]] = deque()
        export = partial(self._export, self.configuration_manager)
        for item in items:
            self.case = Path(item["ofile"]).name if item["ofile"] is not None else NO_CASE
            try:
                logits = self._logits_of(item)
            except ValueError as error:
                if item["ofile"] is None:  # nobody would miss it in the list that is returned
                    raise
                self.failures[self.case] = str(error)
                LOG.error("%s: %s", self.case, error)
                continue
            report = self.reports[-1]
            report.locate(item["data_properties"])
            if "seconds" in item:
                report.seconds = {"preprocessing": item["seconds"], **report.seconds}
            if item["ofile"] is not None:
                path = Path(item["ofile"])
                report.write(path)  # first, so that no segmentation is without one
                folders.add(path.parent)
            waiting.append(pool.submit(export, logits, item, report, probabilities))
            while len(waiting) > workers:
                yield waiting.popleft().result()
        yield from (future.result() for future in waiting)

    def _logits_of(self, item: dict) -> torch.Tensor:
        if "failure" in item:
            raise item["failure"]
        logits: torch.Tensor = self.predict_logits_from_preprocessed_data(_data_of(item)).cpu()
        return logits

    def _export(
        self,
        configuration: ConfigurationManager,
        logits: torch.Tensor,
        item: dict,
        report: CaseReport,
        probabilities: bool,
    ) -> Any:
        """Writes the segmentation and its report, or returns the segmentation."""
        properties, managers = item["data_properties"], (configuration, self.plans_manager)
        if item["ofile"] is None:
            return convert_predicted_logits_to_segmentation_with_correct_shape(
                logits, *reversed(managers), self.label_manager, properties, probabilities
            )
        path = Path(item["ofile"])
        with report.timed("export"):
            export_prediction_from_logits(logits, properties, *managers, self.dataset_json, str(path), probabilities)
        report.write(path)
        return None


def _data_of(item: dict) -> torch.Tensor:
    """The volume of an item; a path is of a file that is used once, as in nnU-Net."""
    data = item["data"]
    if isinstance(data, str):
        path, data = data, torch.from_numpy(np.load(data))
        os.remove(path)
    volume: torch.Tensor = data
    return volume
