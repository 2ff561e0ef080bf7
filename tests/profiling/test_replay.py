import pytest
import torch

from nnunet_ext.profiling import replay
from nnunet_ext.profiling.predict import predict
from nnunet_ext.profiling.replay import Kernels, Replayed
from tests.profiling.small import FAMILIES, PATCH, build

aten = torch.ops.aten
INPUT = (2, 4, *PATCH)
REAL = {aten._local_scalar_dense.default, aten._foreach_add_.Tensor}  # AdamW counts its steps in tensors with values


@pytest.fixture
def kernels(monkeypatch):
    """Without memories of other tests."""
    fresh = Kernels()
    monkeypatch.setattr(replay, "KERNELS", fresh)
    return fresh


@pytest.fixture
def calls(monkeypatch):
    """The operators whose kernels torch ran."""
    made, call = [], replay._call

    def noted(operator, args, kwargs):
        made.append(operator)
        return call(operator, args, kwargs)

    monkeypatch.setattr(replay, "_call", noted)
    return made


def meta(*shape, dtype=torch.float32):
    return torch.empty(shape, dtype=dtype, device="meta")


def described(out):
    """All that a tracker can see of outputs."""
    if isinstance(out, (list, tuple)):
        return [described(each) for each in out]
    return out is not None and (out.shape, out.stride(), out.dtype, out.untyped_storage().nbytes())


@pytest.mark.parametrize(("name", "optimiser"), [*((name, "SGD") for name in FAMILIES), ("unetr_xs", "AdamW")])
def test_what_is_remembered_changes_no_figure(kernels, calls, name, optimiser):
    kernels.remembers = False
    plain = predict(build(name), INPUT, optimiser=optimiser)
    needed = len(calls)
    kernels.remembers = True
    calls.clear()
    assert predict(build(name), INPUT, optimiser=optimiser) == plain  # filled on the way
    filled = len(calls)
    calls.clear()
    assert predict(build(name), INPUT, optimiser=optimiser) == plain  # full
    assert len(calls) < filled < needed
    assert not {o for o in calls if o.namespace == "aten" and not replay._gives_view(o)} - REAL


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_precisions_do_not_mix(kernels, precision):
    expected = predict(build("unetr_xs"), INPUT, precision=precision)
    kernels._recipes.clear()
    predict(build("unetr_xs"), INPUT, precision="amp")
    assert predict(build("unetr_xs"), INPUT, precision=precision) == expected


CALLS = [
    (aten.mul.Tensor, lambda: (meta(3, 4).t(), meta(4, 1))),
    (aten.cat.default, lambda: ([meta(2, 3), meta(5, 3)],)),
    (aten.native_batch_norm.default, lambda: (meta(1, 6, 8, 8), meta(6), meta(6), None, None, True, 0.1, 1e-5)),
    (aten.native_layer_norm.default, lambda: (meta(2, 5, 8), [8], meta(8), None, 1e-5)),
    (
        aten.convolution_backward.default,
        lambda: (
            *(meta(2, 8, 4, 4), meta(2, 4, 4, 4), meta(8, 4, 3, 3), [8], [1, 1], [1, 1], [1, 1]),
            *(False, [0, 0], 1, [True, True, False]),
        ),
    ),
    (  # the bias's gradient has rows of 16 elements in memory
        aten._scaled_dot_product_efficient_attention_backward.default,
        lambda: (
            *(meta(1, 2, 5, 8) for _ in range(4)),
            *(meta(1, 2, 5, 5), meta(1, 2, 5, 8), meta(1, 2, 32)),
            *(meta(dtype=torch.int64), meta(dtype=torch.int64), 0.0, [True] * 4),
        ),
    ),
    (aten._foreach_add.List, lambda: ([meta(3), meta(2, 4).t(), meta(3)], [meta(3), meta(4, 2), meta(1)])),
    (aten._foreach_mul.Scalar, lambda: ([meta(3, dtype=torch.int32), meta(3)], 2.5)),
    (aten._foreach_sqrt.default, lambda: ([meta(3), meta(0), meta()],)),
]


@pytest.mark.parametrize(("operator", "arguments"), CALLS, ids=lambda value: str(value) if value in dict(CALLS) else "")
def test_outputs_are_made_again_as_torch_makes_them(kernels, calls, operator, arguments):
    expected = described(operator(*arguments()))
    first, count = kernels.run(operator, arguments(), {})
    calls.clear()
    again, same_count = kernels.run(operator, arguments(), {})
    assert described(first) == described(again) == expected
    assert not calls
    assert count == same_count
    flat = [t for out in (first, again) for t in (out if isinstance(out, (list, tuple)) else [out]) if t is not None]
    assert len({tensor.untyped_storage()._cdata for tensor in flat}) == len(flat)


def test_in_place_gives_back_the_argument_itself(kernels, calls):
    for _ in range(2):
        x, rows = meta(3, 4), [meta(2), meta(2)]
        assert kernels.run(aten.add_.Tensor, (x, 1.0), {})[0] is x
        assert kernels.run(aten._foreach_add_.List, (rows, [meta(2), meta(1)]), {})[0] is None
        assert len(calls) == 3  # the sum, and both rows, which differ


def test_what_changes_its_argument_is_run_each_time(kernels, calls):
    for _ in range(2):
        x = meta(2, 3)
        out, _ = kernels.run(aten.resize_.default, (x, [5, 7]), {})
        assert out is x
        assert x.shape == (5, 7)
    assert len(calls) == 2


def test_parts_of_arguments_stay_parts(kernels):
    for _ in range(2):
        x = meta(4, 6)
        for operator, args in (
            (aten.view.default, ([24],)),
            (aten._unsafe_view.default, ([24],)),
            (aten.t.default, ()),
        ):
            out, _ = kernels.run(operator, (x, *args), {})
            assert out.untyped_storage()._cdata == x.untyped_storage()._cdata


def test_equal_numbers_of_different_types_are_different_arguments(kernels):
    x = meta(2, dtype=torch.int32)
    types = [kernels.run(aten.mul.Tensor, (x, factor), {})[0].dtype for factor in (1, 1.0, True, 1.0, 1)]
    assert types == [torch.int32, torch.float32, torch.int32, torch.float32, torch.int32]


def test_layout_and_default_type_are_arguments(kernels):
    x = meta(2, 3)
    assert kernels.run(aten.clone.default, (x,), {})[0].stride() == (3, 1)
    assert kernels.run(aten.clone.default, (meta(3, 2).t(),), {})[0].stride() == (1, 2)
    whole = meta(2, dtype=torch.int32)
    assert kernels.run(aten.mul.Tensor, (whole, 0.5), {})[0].dtype == torch.float32
    torch.set_default_dtype(torch.float64)
    try:
        assert kernels.run(aten.mul.Tensor, (whole, 0.5), {})[0].dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_tensors_with_values_are_computed(kernels):
    for value in (1.0, 2.0):
        x = torch.full((2,), value)
        assert kernels.run(aten.mul.Tensor, (x, x), {})[0].tolist() == [value**2] * 2
        assert [t.tolist() for t in kernels.run(aten._foreach_mul.Scalar, ([x], 3.0), {})[0]] == [[3 * value] * 2]
    assert not any(kernels._recipes.values())


def test_memory_is_bounded(kernels, monkeypatch):
    monkeypatch.setattr(replay, "LIMIT", 3)
    for size in range(1, 12):
        assert kernels.run(aten.neg.default, (meta(size),), {})[0].shape == (size,)
        assert len(kernels._recipes) <= 3


def test_a_mode_runs_operators_from_memory(kernels, calls):
    with Replayed():
        shapes = [(meta(2, 3) @ meta(3, 4)).shape for _ in range(3)]
    assert shapes == [(2, 4)] * 3
    assert calls.count(aten.mm.default) == 1
