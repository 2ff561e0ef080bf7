import pytest

from nnunet_ext.evaluation.runs import complete, find_runs


def make(root, *names, folds=(0, 1), finished=True):
    for name in names:
        for fold in folds:
            folder = root / "Dataset501_BraTS" / name / f"fold_{fold}"
            (folder / "validation").mkdir(parents=True)
            if finished:
                (folder / "validation" / "summary.json").write_text("{}")
                (folder / "checkpoint_final.pth").touch()
    return root


GHOST = [f"nnUNetTrainer_DualBranchGhost_XS_seed{i}__nnUNetPlans_cpu__3d_fullres" for i in (1, 2)]
STOCK = "nnUNetTrainer__nnUNetPlans_cpu__3d_fullres"


def test_names_tell_method_seed_and_fold(tmp_path):
    found = find_runs([make(tmp_path, *GHOST, STOCK)])
    assert found.left_out == {}
    assert {(run.method, run.seed, run.fold) for run in found.runs} == {
        *(("DualBranchGhost_XS", seed, fold) for seed in (1, 2) for fold in ("0", "1")),
        *(("nnUNetTrainer", None, fold) for fold in ("0", "1")),
    }


@pytest.mark.parametrize("below", ["", "Dataset501_BraTS", f"Dataset501_BraTS/{STOCK}"])
def test_any_level_of_the_results_is_taken(tmp_path, below):
    found = find_runs([make(tmp_path, STOCK) / below])
    assert [run.folder.name for run in found.runs] == ["fold_0", "fold_1"]
    assert {run.dataset for run in found.runs} == {"Dataset501_BraTS"}


def test_one_fold_and_a_folder_named_twice(tmp_path):
    fold = make(tmp_path, STOCK) / "Dataset501_BraTS" / STOCK / "fold_1"
    assert [run.fold for run in find_runs([fold, fold]).runs] == ["1"]


def test_plans_and_configuration_are_told_where_they_differ(tmp_path):
    make(tmp_path, STOCK, "nnUNetTrainer__nnUNetPlans_cpu__2d")
    assert {run.method for run in find_runs([tmp_path]).runs} == {"nnUNetTrainer 3d_fullres", "nnUNetTrainer 2d"}


def test_a_training_that_still_runs_is_left_out_and_told(tmp_path):
    make(tmp_path, STOCK)
    make(tmp_path, GHOST[0], folds=(0,), finished=False)
    found = find_runs([tmp_path])
    assert {run.method for run in found.runs} == {"nnUNetTrainer"}
    ((folder, reason),) = found.left_out.items()
    assert folder.endswith("fold_0")
    assert "not finished" in reason


def test_no_model_and_two_datasets_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no trained model"):
        find_runs([tmp_path / "empty"])
    make(tmp_path, STOCK)
    (tmp_path / "Dataset002_Other" / STOCK / "fold_0").mkdir(parents=True)
    with pytest.raises(ValueError, match="several datasets"):
        find_runs([tmp_path])


def test_only_common_folds_and_equally_many_seeds_are_compared(tmp_path):
    make(tmp_path, *GHOST, folds=(0, 1, 2))
    make(tmp_path, STOCK, folds=(0, 1))
    kept = complete(find_runs([tmp_path]).runs)
    assert {(run.method, run.seed, run.fold) for run in kept.runs} == {
        ("DualBranchGhost_XS", 1, "0"),
        ("DualBranchGhost_XS", 1, "1"),
        ("nnUNetTrainer", None, "0"),
        ("nnUNetTrainer", None, "1"),
    }
    assert len(kept.left_out) == 4  # fold 2 of both seeds, folds 0 and 1 of the second


def test_without_a_common_fold_there_is_no_comparison(tmp_path):
    make(tmp_path, GHOST[0], folds=(0,))
    make(tmp_path, STOCK, folds=(1,))
    with pytest.raises(ValueError, match="No fold was trained with every method"):
        complete(find_runs([tmp_path]).runs)


def test_a_method_none_of_whose_seeds_has_all_common_folds_is_named(tmp_path):
    make(tmp_path, STOCK)
    make(tmp_path, GHOST[0], folds=(0,))
    make(tmp_path, GHOST[1], folds=(1,))
    with pytest.raises(ValueError, match="DualBranchGhost_XS: no seed was trained on all common folds"):
        complete(find_runs([tmp_path]).runs)
