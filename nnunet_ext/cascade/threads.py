"""nnU-Net's ways to predict, with threads where nnU-Net starts processes: each of those imports torch again."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice, repeat
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from nnunetv2.configuration import default_num_processes
from nnunetv2.inference.data_iterators import PreprocessAdapter
from nnunetv2.inference.export_prediction import (
    convert_predicted_logits_to_segmentation_with_correct_shape,
    export_prediction_from_logits,
)
from nnunetv2.inference.sliding_window_prediction import compute_gaussian
from nnunetv2.utilities.helpers import empty_cache
from numpy.typing import NDArray

from nnunet_ext.cascade.checks import check_channels
from nnunet_ext.cascade.report import CaseReport, summarise

Item = TypeVar("Item")
Result = TypeVar("Result")


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
        for files in input_list_of_lists:
            check_channels(len(files), self, f"The case {Path(files[0]).name}")
        previous: list[Any] = list(seg_from_prev_stage_files or repeat(None, count))
        outputs: list[Any] = list(output_filenames_truncated or repeat(None, count))
        workers = min(num_processes, count, os.cpu_count() or 1)
        return ahead(self._preprocess, zip(input_list_of_lists, previous, outputs, strict=True), workers)

    def _preprocess(self, case: tuple[list[str], str | None, str | None]) -> dict:
        files, previous, output = case
        start = time.perf_counter()
        preprocessor = self.configuration_manager.preprocessor_class(verbose=self.verbose_preprocessing)
        managers = (self.plans_manager, self.dataset_json, self.configuration_manager)
        item: dict = next(PreprocessAdapter([files], [previous], preprocessor, [output], *managers))
        return {**item, "seconds": time.perf_counter() - start}

    def predict_single_npy_array(self, input_image: NDArray[Any], *others: Any, **further: Any) -> Any:
        """As nnU-Net's; input (C, Z, Y, X)."""
        check_channels(len(input_image), self, "The array")
        return super().predict_single_npy_array(input_image, *others, **further)  # type: ignore[misc]  # mixin

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
        """As nnU-Net's; the segmentations are returned where no files are named."""
        workers = min(num_processes_segmentation_export, os.cpu_count() or 1)
        done: list[Any] = []
        folders: set[Path] = set()
        waiting: deque[Future[Any]] = deque()
        with ThreadPoolExecutor(max(1, workers)) as pool:
            for item in data_iterator:
                logits = self.predict_logits_from_preprocessed_data(_data_of(item)).cpu()
                report = self.reports[-1]
                report.locate(item["data_properties"])
                report.seconds = {"preprocessing": item.get("seconds", 0.0), **report.seconds}
                waiting.append(pool.submit(self._export, logits, item, report, save_probabilities))
                if item["ofile"] is not None:
                    folders.add(Path(item["ofile"]).parent)
                while len(waiting) > workers:
                    done.append(waiting.popleft().result())
            done += [future.result() for future in waiting]
        for folder in folders:
            summarise(folder)
        compute_gaussian.cache_clear()
        empty_cache(self.device)
        return done

    def _export(self, logits: torch.Tensor, item: dict, report: CaseReport, probabilities: bool) -> Any:
        """Writes the segmentation and its report, or returns the segmentation."""
        properties, managers = item["data_properties"], (self.configuration_manager, self.plans_manager)
        if item["ofile"] is None:
            return convert_predicted_logits_to_segmentation_with_correct_shape(
                logits, *reversed(managers), self.label_manager, properties, probabilities
            )
        path = Path(item["ofile"])
        report.write(path)  # first, so that no segmentation is without one
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
