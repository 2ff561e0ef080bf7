"""The command nnunet_ext ensemble: what it writes, that it is nnU-Net's where nothing is weighted, what it refuses."""

import json
import pickle
import shutil

import numpy as np
import pandas as pd
import pytest
import SimpleITK
from nnunetv2.ensembling.ensemble import ensemble_folders

from nnunet_ext.cli import main
from nnunet_ext.ensembling.members import Member, sorted_by_name
from nnunet_ext.evaluation.table import read_metrics
from tests.ensembling.models import DATASET, FOLDS, LABELS, NAMES, REGIONS, TEST, describe, make, put, words
from tests.evaluation.files import save

CASES = [case for fold in FOLDS.values() for case in fold]


@pytest.fixture(scope="module", params=["regions", "labels"])
def made(request, tmp_path_factory):
    """Three models of a dataset with regions, or with plain labels."""
    root = tmp_path_factory.mktemp(request.param)
    return root, make(root, labels=REGIONS if request.param == "regions" else LABELS)


@pytest.fixture
def root(made, monkeypatch):
    for name, value in made[1].items():
        monkeypatch.setenv(name, value)
    return made[0]


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Models that a test may change."""
    for name, value in make(tmp_path, NAMES[:2]).items():
        monkeypatch.setenv(name, value)
    return tmp_path


def ensemble(root, out, *options, names=NAMES, tests=True):
    return main(["ensemble", *words(root, names, tests), "-o", str(out), *map(str, options)])


def voxels(path):
    return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))


def stored(path):
    with np.load(path) as file:
        return file["probabilities"]


def weights_of(out):
    return json.loads((out / "weights.json").read_text())["weights"]


def test_equal_weights_are_nnunets_ensemble_to_the_last_bit(root, tmp_path):
    names = sorted(NAMES)
    assert ensemble(root, tmp_path / "ours", "--rule", "average", "--save_probabilities") == 0
    ensemble_folders([str(root / "test" / name) for name in names], str(tmp_path / "theirs"), True, 1)
    for case in TEST:
        ours, theirs = (tmp_path / folder / case for folder in ("ours", "theirs"))
        assert np.array_equal(stored(f"{ours}.npz"), stored(f"{theirs}.npz"))
        assert ours.with_suffix(".nii.gz").read_bytes() == theirs.with_suffix(".nii.gz").read_bytes()
    assert (tmp_path / "ours/dataset.json").read_bytes() == (root / "test" / names[0] / "dataset.json").read_bytes()
    assert {p.name for p in (tmp_path / "ours").iterdir()} == {
        *(f"{case}.{ending}" for case in TEST for ending in ("nii.gz", "npz", "pkl")),
        *("dataset.json", "plans.json", "weights.json", "ensemble.csv", "ensemble_cases.csv"),
    }


def test_what_is_written_is_the_weighted_mean(root, tmp_path):
    assert ensemble(root, tmp_path / "out", "--rule", "search", "--save_probabilities") == 0
    weights = weights_of(tmp_path / "out")["written"]
    assert weights == weights_of(tmp_path / "out")["search"]
    for case in TEST:
        volumes = {name: stored(root / "test" / name / f"{case}.npz") for name in NAMES}
        expected = np.zeros_like(volumes[NAMES[0]], np.float64)
        for group, (channels) in enumerate(weights):
            chosen = slice(group, group + 1) if len(weights) > 1 else slice(None)
            for name in NAMES:
                expected[chosen] += weights[channels][f"{name}__P__3d_fullres"] * volumes[name][chosen]
        assert stored(tmp_path / "out" / f"{case}.npz") == pytest.approx(expected, abs=1e-6)


def test_the_order_of_the_models_changes_nothing(root, tmp_path):
    options = ("--test-labels", root / "testlabels", "--save_probabilities")
    assert ensemble(root, tmp_path / "a", *options) == 0
    assert ensemble(root, tmp_path / "b", *options, "--jobs", 2, names=NAMES[::-1]) == 0
    for path in (tmp_path / "a").iterdir():
        if path.name != "weights.json" and path.suffix != ".npz":  # the command, and times in the archives
            assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name
    assert weights_of(tmp_path / "a") == weights_of(tmp_path / "b")


def test_models_are_taken_by_name(tmp_path):
    given = [Member(name, {}, {}, {}, tmp_path) for name in ("b", "c", "a")]
    assert [member.name for member in sorted_by_name(given)] == ["a", "b", "c"]


def test_one_model_alone_is_itself(root, tmp_path):
    name = NAMES[1]
    assert ensemble(root, tmp_path / "out", "--save_probabilities", names=(name,)) == 0
    for case in TEST:
        assert np.array_equal(stored(tmp_path / "out" / f"{case}.npz"), stored(root / "test" / name / f"{case}.npz"))
    assert {w for groups in weights_of(tmp_path / "out").values() for g in groups.values() for w in g.values()} == {1}


def test_the_dice_of_test_cases_are_those_of_evaluate(root, tmp_path, capsys):
    out = tmp_path / "out"
    assert ensemble(root, out, "--test-labels", root / "testlabels") == 0
    assert "which chose nothing" in capsys.readouterr().out
    assert (
        main(["evaluate", str(root / "testlabels"), str(out), "-o", str(tmp_path / "eval"), "--edition", "2023"]) == 0
    )
    theirs = read_metrics(tmp_path / "eval").query("metric == 'Dice'").set_index(["case", "region"])["value"]
    ours = pd.read_csv(out / "ensemble_cases.csv").query("set == 'test' and rule == 'written'")
    assert len(ours) == len(TEST) * 3
    for row in ours.itertuples():
        assert row.Dice == theirs[row.case, row.region]
    table = pd.read_csv(out / "ensemble.csv").set_index(["set", "region", "rule"])
    for region in ("WT", "TC", "ET"):
        assert table.loc[("test", region, "written"), "Dice"] == pytest.approx(theirs.loc[:, region].mean())


def test_test_cases_and_their_references_choose_nothing(own):
    assert ensemble(own, own / "first", "--test-labels", own / "testlabels", names=NAMES[:2]) == 0
    for path in (own / "test").rglob("*.npz"):
        np.savez(path, probabilities=1 - stored(path))
    for path in (own / "testlabels").iterdir():
        save(path, np.ones_like(voxels(path)))
    assert ensemble(own, own / "second", "--test-labels", own / "testlabels", names=NAMES[:2]) == 0
    assert ensemble(own, own / "third", names=NAMES[:2], tests=False) == 0
    assert weights_of(own / "first") == weights_of(own / "second") == weights_of(own / "third")
    assert not list((own / "third").glob("*.nii.gz"))


def test_a_case_is_judged_by_weights_that_were_chosen_without_its_fold(own):
    """As if its fold were test cases of an ensemble that only knows the other fold."""
    assert ensemble(own, own / "both", names=NAMES[:2], tests=False) == 0
    models = []
    for name in NAMES[:2]:
        model = own / f"results/{DATASET}/{name}__P__3d_fullres"
        models += ["--model", str(model), str(model / "fold_1/validation")]
    references = str(own / f"preprocessed/{DATASET}/gt_segmentations")
    options = ["--folds", "0", "--test-labels", references, "-o", str(own / "one")]
    assert main(["ensemble", *models, *options]) == 0
    judged = pd.read_csv(own / "both/ensemble_cases.csv").query("set == 'validation'")
    tested = pd.read_csv(own / "one/ensemble_cases.csv").query("set == 'test'")
    keys = ["case", "region", "rule"]
    both = judged.merge(tested, on=keys, suffixes=("_judged", "_tested")).query("rule != 'written'")
    assert len(both) == 3 * 3 * 4
    assert (both["Dice_judged"] == both["Dice_tested"]).all()


def test_several_folders_of_a_model_are_averaged(own):
    name, other = NAMES[:2]
    both = [str(own / "test" / n) for n in (name, other)]
    model = str(own / f"results/{DATASET}/{name}__P__3d_fullres")
    assert main(["ensemble", "--model", model, *both, "-o", str(own / "out"), "--save_probabilities"]) == 0
    for case in TEST:
        first, second = (stored(own / "test" / n / f"{case}.npz") for n in (name, other))
        assert np.array_equal(stored(own / "out" / f"{case}.npz"), (first + second) / np.float32(2))


def test_plain_folders_with_references_by_name(own):
    for number, name in enumerate(NAMES[:2]):
        folder = own / f"flat{number}"
        describe(folder)
        for fold in FOLDS:
            for path in (own / f"results/{DATASET}/{name}__P__3d_fullres/fold_{fold}/validation").iterdir():
                shutil.copy(path, folder)
    options = ["--model", str(own / "flat0"), "--model", str(own / "flat1"), "-o", str(own / "out")]
    assert main(["ensemble", *options, "--labels", str(own / f"preprocessed/{DATASET}/gt_segmentations")]) == 0
    facts = json.loads((own / "out/weights.json").read_text())
    assert [len(part) for part in facts["cross_validation"]] == [2, 1, 1, 1, 1]
    assert sorted(case for part in facts["cross_validation"] for case in part) == CASES


def fold(own, number=1, model=0):
    return own / f"results/{DATASET}/{NAMES[model]}__P__3d_fullres/fold_{number}/validation"


def lack(own):
    for ending in ("npz", "pkl", "nii.gz"):
        (fold(own) / f"v3.{ending}").unlink()


def lack_test(own):
    for ending in ("npz", "pkl", "nii.gz"):
        (own / f"test/{NAMES[1]}/t1.{ending}").unlink()


def another_shape(own):
    put(own / f"test/{NAMES[1]}", "t1", np.zeros((3, 4, 4, 4), np.float32))


def another_number_of_channels(own):
    put(fold(own), "v4", np.zeros((4, 8, 9, 10), np.float32))


def other_labels(own):
    describe(own / f"results/{DATASET}/{NAMES[1]}__P__3d_fullres", LABELS)


def leak(own):
    for name in NAMES[:2]:
        for path in fold(own).glob("v3.*"):
            shutil.copy(path, own / "test" / name / path.name)


def damaged(own):
    path = fold(own) / "v3.npz"
    path.write_bytes(path.read_bytes()[:100])


def no_probabilities(own):
    put(fold(own), "v4", np.full((3, 8, 9, 10), np.nan, np.float32))


def only_label_maps(own):
    for path in fold(own).glob("*.npz"):
        path.unlink()


def one_without(own):
    (fold(own) / "v3.npz").unlink()


def code_in_pkl(own):
    (own / f"test/{NAMES[0]}/t0.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")


def number_in_pkl(own):
    (own / f"test/{NAMES[0]}/t0.pkl").write_bytes(pickle.dumps(3))


def cut_pkl(own):
    path = own / f"test/{NAMES[0]}/t0.pkl"
    path.write_bytes(path.read_bytes()[:-9])


def no_reference(own):
    (own / f"preprocessed/{DATASET}/gt_segmentations/v5.nii.gz").unlink()


def reference_of_another_shape(own):
    save(own / f"preprocessed/{DATASET}/gt_segmentations/v5.nii.gz", np.zeros((4, 4, 4), np.uint8))


def reference_of_another_edition(own):
    save(own / f"preprocessed/{DATASET}/gt_segmentations/v5.nii.gz", np.full((8, 9, 10), 4, np.uint8))


def reference_cut_off(own):
    path = own / f"preprocessed/{DATASET}/gt_segmentations/v5.nii.gz"
    path.write_bytes(path.read_bytes()[:60])


def fold_all(own):
    for number in (0, 1):
        shutil.rmtree(fold(own, number).parent)
    put(
        own / f"results/{DATASET}/{NAMES[0]}__P__3d_fullres/fold_all/validation",
        "v0",
        np.zeros((3, 8, 9, 10), np.float32),
    )


def twice(own):
    for path in fold(own, 0).glob("v0.*"):
        shutil.copy(path, fold(own, 1))


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lack, "has v3, which that of"),
        (lack_test, "lacks t1, which those of"),
        (another_shape, "has the shape 3 x 4 x 4 x 4 (channels, z, y, x), not 3 x 8 x 9 x 10"),
        (another_number_of_channels, "has the shape 4 x 8 x 9 x 10"),
        (other_labels, "have different labels"),
        (leak, "v3: among the test cases and among those on which the weights would be chosen"),
        (damaged, "v3.npz cannot be read"),
        (no_probabilities, "not from 0 to 1"),
        (only_label_maps, "--val --npz"),
        (one_without, "no probabilities (npz) of v3"),
        (code_in_pkl, "t0.pkl cannot be read"),
        (number_in_pkl, "t0.pkl holds no properties of an image but a int"),
        (cut_pkl, "t0.pkl cannot be read"),
        (no_reference, "no reference of the validation case v5"),
        (reference_of_another_shape, "4 x 4 x 4 and 8 x 9 x 10"),
        (reference_of_another_edition, "has the label 4"),
        (reference_cut_off, "cut off"),
        (fold_all, "fold_all"),
        (twice, "v0 is in two validations"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_refusals(own, capsys, spoil, told):
    spoil(own)
    assert ensemble(own, own / "out", names=NAMES[:2]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert [line for line in lines if "nnunet_ext ensemble:" in line] == [lines[-1]]
    assert told in lines[-1]
    assert not (own / "out").exists()
    assert not list(own.glob(".out*"))


def test_what_an_earlier_ensemble_wrote_of_other_cases_does_not_stay(own):
    """It would be evaluated with the new ones; what somebody else put there stays, and a failure changes nothing."""
    assert ensemble(own, own / "out", "--save_probabilities", names=NAMES[:2]) == 0
    (own / "out" / "notes.txt").touch()
    before = {path.name: path.read_bytes() for path in (own / "out").iterdir()}
    kept = (own / f"test/{NAMES[0]}/t0.pkl").read_bytes()
    (own / f"test/{NAMES[0]}/t0.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    assert ensemble(own, own / "out", "--overwrite", names=NAMES[:2]) == 2
    assert {path.name: path.read_bytes() for path in (own / "out").iterdir()} == before
    (own / f"test/{NAMES[0]}/t0.pkl").write_bytes(kept)
    for name in NAMES[:2]:
        for path in (own / "test" / name).glob("t1.*"):
            path.unlink()
    assert ensemble(own, own / "out", "--overwrite", names=NAMES[:2]) == 0
    left = {path.name for path in (own / "out").iterdir()}
    assert not [name for name in left if name.startswith("t1")]
    assert {"t0.nii.gz", "notes.txt", "weights.json"} <= left
    assert "t0.npz" not in left, "it was of the ensemble before"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--jobs", "0"), "--jobs"),
        (("--folds", "7"), "fold_1, and not fold 7; name folds that it has"),
        (("-m", "nowhere"), "does not exist"),
        (("--labels", "nowhere"), "nowhere"),
    ],
)
def test_bad_options(own, capsys, options, told):
    tests = "-m" not in options
    assert ensemble(own, own / "out", *options, names=NAMES[:2], tests=tests) == 2
    assert told in capsys.readouterr().err


def test_bad_places(own, capsys):
    assert ensemble(own, own / "test" / NAMES[0], names=NAMES[:2]) == 2
    assert "another folder" in capsys.readouterr().err
    assert ensemble(own, own / "testlabels", names=NAMES[:2]) == 2
    assert "not empty" in capsys.readouterr().err
    assert ensemble(own, own / "testlabels/t0.nii.gz", names=NAMES[:2]) == 2
    assert "is a file" in capsys.readouterr().err
    assert ensemble(own, own / "out", names=(NAMES[0], NAMES[0])) == 2
    assert "Two models are named" in capsys.readouterr().err
    assert ensemble(own, own / "out", "--test-labels", own / "testlabels", names=NAMES[:2], tests=False) == 2
    assert "--test-labels" in capsys.readouterr().err
    assert ensemble(own, own / "out", "-m", own / "test" / NAMES[0], names=NAMES[:2]) == 2
    assert "for all, or for none" in capsys.readouterr().err


def test_one_fold_of_many_and_one_case_alone(own, capsys):
    assert ensemble(own, own / "out", "--folds", "1", names=NAMES[:2]) == 0
    assert json.loads((own / "out/weights.json").read_text())["validation_cases"] == list(FOLDS["1"])
    for path in [*fold(own, 1).glob("v[34].*"), *fold(own, 1, model=1).glob("v[34].*")]:
        path.unlink()
    assert ensemble(own, own / "other", "--folds", "1", names=NAMES[:2]) == 2
    assert "at least two" in capsys.readouterr().err
