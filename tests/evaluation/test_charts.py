import numpy as np
import pandas as pd
import pytest

from nnunet_ext.evaluation import charts


def test_the_front_by_hand():
    cost = np.array([4.0, 1.0, 2.0, 3.0, 1.0])
    gain = np.array([0.9, 0.5, 0.8, 0.7, 0.4])
    assert charts.pareto(cost, gain).tolist() == [[1, 0.5], [2, 0.8], [4, 0.9]]


@pytest.mark.parametrize("count", [1, 8, 20])
def test_each_method_looks_different(count):
    looks = charts.style([f"method {i}" for i in range(count)])
    assert len({(look["color"], look["marker"]) for look in looks.values()}) == count


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("UNet3D", ["UNet3D"]),
        ("DualBranchGhost_XS_AdamW3en3_Cosine_8epochs", ["DualBranchGhost_XS_", "AdamW3en3_Cosine_8epochs"]),
        ("ensemble of the best 2 (inverse-error)", ["ensemble of the best 2", "(inverse-error)"]),
    ],
)
def test_long_names_are_broken_where_words_end(name, lines):
    assert charts.broken(name, 26).splitlines() == lines
    assert charts.lines_of([name, "A"]) == charts.broken(name).count("\n") + 1


def test_no_label_of_a_picture_with_long_names_leaves_it(tmp_path, monkeypatch):
    """The legend lies within the figure, and the names take less than half of its width."""
    drawn = []
    monkeypatch.setattr(charts, "_save", lambda figure, path: drawn.append(figure))
    methods = [f"{name}_XS_AdamW3en3_Cosine_Warmup10_Dice70CE30_250epochs_iter100" for name in ("UNet3D", "UNETR", "B")]
    epochs = pd.DataFrame([(m, e, -e / 10, e / 10) for m in methods for e in range(3)])
    charts.learning_curves(epochs.set_axis(["method", "epoch", "val_loss", "ema_pseudo_dice"], axis=1), tmp_path)
    rows = [(m, "WT", "Dice", 0.8, 0.7, 0.9) for m in methods]
    models = pd.DataFrame(rows, columns=["method", "region", "metric", "mean", "low", "high"])
    charts.model_comparison(models, tmp_path, ["WT"])
    for figure in drawn:
        figure.draw_without_rendering()
        inside = figure.bbox
        for legend in figure.legends:
            box = legend.get_window_extent()
            assert inside.x0 <= box.x0
            assert box.x1 <= inside.x1
        assert figure.axes[0].get_position().width > 0.25
