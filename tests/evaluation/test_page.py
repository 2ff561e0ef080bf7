import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest

from nnunet_ext.evaluation import page
from nnunet_ext.evaluation.page_data import page_data
from nnunet_ext.evaluation.simulation import Scenario, draw
from nnunet_ext.evaluation.surface_meshes import FACES, mesh_of

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
REGIONS = ["WT", "TC", "ET"]
COST = {"parameters": 5e6, "macs": 5e10, "pam_training_mib": 3000.0, "pam_inference_mib": 500.0}


def tables(methods, seeds, cases):
    """A comparison of simulated scores."""
    generator = np.random.default_rng(0)
    rows = []
    for region in REGIONS:
        scores = draw(Scenario("page", methods=methods, seeds=seeds, cases=cases), generator)
        m, s, c = np.indices(scores.values.shape).reshape(3, -1)
        base = {"method": m, "seed": s, "fold": scores.folds[c], "case": c, "region": region}
        dice = scores.values.ravel()
        for metric, value in (("Dice", dice), ("HD95_pooled", 40 * (1 - dice))):
            rows.append(pd.DataFrame({**base, "metric": metric, "value": value}))
    results = pd.concat(rows).assign(run="run", note="")
    results["method"] = "model with a long name " + results["method"].astype(str)
    results["case"] = "BraTS2021_" + results["case"].astype(str).str.zfill(5)
    names = list(dict.fromkeys(results["method"]))
    summary = results.groupby(["method", "region", "metric"])["value"].mean().rename("mean").reset_index()
    models = summary.assign(low=summary["mean"] - 0.01, high=summary["mean"] + 0.01, **COST)
    epochs = [
        {"method": n, "epoch": e, "val_loss": -e / 10, "ema_pseudo_dice": e / 200} for n in names for e in range(200)
    ]
    runs = [
        {"run": f"{n}/{i}", "method": n, "predictions": f"results/{n}/fold_{i % 5}"} for n in names for i in range(15)
    ]
    ranking = pd.DataFrame({"method": names, "mean_rank": np.arange(len(names)) + 1.0})
    return {
        "results": results,
        "models": models,
        "comparisons": pd.DataFrame(),
        "ranking": ranking,
        "epochs": pd.DataFrame(epochs),
        "runs": pd.DataFrame(runs),
    }


def ball(radius, size=40):
    z, y, x = np.indices((size,) * 3) - size // 2
    return z**2 + y**2 + x**2 < radius**2


@pytest.fixture(scope="module")
def data():
    meshes = {region: mesh_of(ball(r), (1, 1, 1)).as_plain() for region, r in zip(REGIONS, (16, 11, 7), strict=True)}
    found = tables(3, 2, 5)
    surfaces = {"BraTS2021_00003": {"reference": meshes, "model with a long name 1": meshes}}
    return page_data(found, REGIONS, {"dataset": "Dataset501_BraTS", "seeds": 2}, surfaces)


def test_values_are_the_tables(data):
    found = tables(3, 2, 5)["results"]
    chosen = found[
        (found["method"] == data["methods"][1]["name"]) & (found["region"] == "TC") & (found["metric"] == "Dice")
    ]
    means = chosen.groupby("case")["value"].mean()
    for case, value in zip(data["cases"], data["values"]["TC"]["Dice"][1], strict=True):
        assert value == round(1000 * means[case])


def test_the_page_has_all_in_it_and_asks_for_nothing(data, tmp_path):
    size = page.write_page(tmp_path / page.NAME, data)
    text = (tmp_path / page.NAME).read_text()
    assert size == len(text.encode())
    assert "{data}" not in text
    assert not re.search(r"/\* \w+\.(?:js|css) \*/", text)
    outside = re.sub(r'<script type="text/plain".*?</script>', "", text, flags=re.S)
    assert not re.search(r"https?://", outside)


def test_twenty_models_five_folds_three_seeds_fit():
    """1,251 cases as in BraTS 2021, with the surfaces at their limit."""
    from nnunet_ext.commands.report_page import SURFACE_BYTES

    generator = np.random.default_rng(0)
    noise = generator.integers(0, 256, SURFACE_BYTES * 3 // 4, dtype=np.uint8).tobytes()
    found = page_data(tables(20, 3, 250), REGIONS, {"dataset": "Dataset501_BraTS"}, {})
    size = len(page.page(found).encode()) + len(page.packed(noise.hex()))
    assert size < page.MOST_BYTES


def test_a_surface_by_hand():
    """A single voxel at (1, 2, 3) of 1 x 2 x 3 mm: an octahedron around its centre, whose tips reach half a voxel."""
    mask = np.zeros((4, 5, 6), bool)
    mask[1, 2, 3] = True
    mesh = mesh_of(mask, (1.0, 2.0, 3.0))
    assert mesh.vertices.mean(0).tolist() == pytest.approx([1, 4, 9])
    assert (mesh.vertices.max(0) - mesh.vertices.min(0)).tolist() == pytest.approx([1, 2, 3])
    moved = mesh_of(mask, (1.0, 2.0, 3.0), origin=(10, 0, 0))
    assert (moved.vertices - mesh.vertices).mean(0).tolist() == pytest.approx([10, 0, 0])
    assert mesh_of(np.zeros((3, 3, 3), bool), (1, 1, 1)) is None


def test_a_simplified_surface_keeps_the_volume():
    mesh = mesh_of(ball(16), (1, 1, 1))
    assert len(mesh.faces) <= FACES
    a, b, c = (mesh.vertices[mesh.faces[:, i]] for i in range(3))
    volume = abs(np.einsum("ni,ni->n", a, np.cross(b, c)).sum()) / 6
    assert volume == pytest.approx(ball(16).sum(), rel=0.05)


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium here (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # a software renderer, for 3D without a GPU
        flags = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield started
        started.close()


@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (390, "dark")])
def test_in_a_browser(browser, data, tmp_path, width, scheme):
    path = tmp_path / page.NAME
    page.write_page(path, data)
    view = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    errors, requests = [], []
    view.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    view.on("pageerror", lambda error: errors.append(str(error)))
    view.on("request", lambda request: requests.append(request.url))
    view.goto(path.as_uri())
    view.wait_for_selector("body[data-ready]", timeout=120_000)
    _sorts(view)
    _picks_models(view)
    _turns(view)
    assert view.evaluate("document.documentElement.scrollWidth") == width
    assert view.evaluate("document.documentElement.dataset.theme") == scheme
    assert errors == []
    assert requests == [path.as_uri()]
    view.close()


def _first_model(view):
    return view.locator("#table tbody tr").first.inner_text()


def _sorts(view):
    view.locator("button[data-sort=name]").press("Enter")
    assert "name 0" in _first_model(view)
    view.locator("button[data-sort=name]").press("Enter")
    assert "name 2" in _first_model(view)


def _picks_models(view):
    boxes = "document.getElementById('box').data.length"
    assert view.evaluate(boxes) == 3
    view.locator("input[data-model$='1']").uncheck()
    assert view.evaluate(boxes) == 2
    assert view.locator("#cases thead th").count() == 3 + 2
    view.locator("#all").click()
    view.select_option("#metric", "HD95_pooled")
    worst = [float(text) for text in view.locator("#cases tbody tr td:nth-child(3)").all_inner_texts()]
    assert worst == sorted(worst, reverse=True)
    view.select_option("#metric", "Dice")


def _turns(view):
    meshes = "document.getElementById('left').data.map((t) => t.name)"
    assert view.evaluate(meshes) == REGIONS
    view.locator("input[data-region=WT]").uncheck()
    assert view.evaluate(meshes) == ["TC", "ET"]
    eye = "JSON.stringify(document.getElementById('right')._fullLayout.scene.camera.eye)"
    before = view.evaluate(eye)
    view.locator("#left").press("ArrowRight")
    view.wait_for_function(f"{eye} !== {json.dumps(before)}", timeout=20_000)
    assert "WT" in view.locator("#right-name").inner_text()
    view.locator("#cases button").first.click()
    assert view.locator("tr[aria-selected=true]").count() == 1
