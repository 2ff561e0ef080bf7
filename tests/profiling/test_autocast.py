import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import group_norm, instance_norm, interpolate, softmax

from nnunet_ext.profiling.autocast import (
    FLOAT32,
    FLOAT32_RESULT,
    LOWER,
    WIDEST,
    CudaAutocast,
    _widest,
    precision_of,
)
from nnunet_ext.profiling.predict import predict
from tests.profiling.small import PATCH, build

HEADER = Path(torch.__file__).parent / "include" / "ATen" / "autocast_mode.h"
# operators that no Python function reaches by this name: overloads for recurrent networks, interpolation and losses,
# which the functions `interpolate` and `upsample` and the losses themselves stand for
INNER = {"_convolution", "_scaled_dot_product_flash_attention", "upsample_nearest1d", "upsample_linear1d"}
RECURRENT = re.compile(r"_thnn_fused_.*|lstm_cell|gru_cell|rnn_.*")
UPSAMPLING = re.compile(r"_?upsample_.*")


def listed(macro: str) -> set[str]:
    text = HEADER.read_text(encoding="utf-8")
    body = re.search(rf"#define {macro}\(_\)(.*?)\n\n", text, re.DOTALL)[1]
    names = set(re.findall(r"_\((\w+)", body))
    return {n for n in names if n not in INNER and not RECURRENT.fullmatch(n) and not UPSAMPLING.fullmatch(n)}


def kernels(key: str) -> set[str]:
    has = torch._C._dispatch_has_kernel_for_dispatch_key
    operators = [name for name in torch._C._dispatch_get_all_op_names() if name.startswith("aten::")]
    names = {name.removeprefix("aten::").partition(".")[0] for name in operators if has(name, key)}
    return {n for n in names if n not in INNER and not RECURRENT.fullmatch(n)}


LISTS = [
    # torch's list, ours, and the Python functions that ours has in place of several operators
    ("AT_FORALL_LOWER_PRECISION_FP", LOWER, set()),
    ("AT_FORALL_FP32", FLOAT32, {"cross_entropy", "interpolate", "upsample"}),  # nll_loss and upsample_* inside
    ("AT_FORALL_FP32_SET_OPT_DTYPE", FLOAT32_RESULT, {"norm"}),  # torch lists it apart, with its signatures
    ("AT_FORALL_PROMOTE", WIDEST, set()),
]


@pytest.mark.parametrize(("macro", "ours", "functions"), LISTS, ids=[macro for macro, *_ in LISTS])
def test_lists_are_torchs(macro, ours, functions):
    assert ours == listed(macro) | functions


# torch.autocast("cuda") treats these, torch.autocast("cpu") does not: on a CPU they stay in low precision
CUDA_ONLY = """
    acos addcdiv addcmul addmv addr asin atan2 bilinear chain_matmul convolution cosh cosine_similarity cross
    cudnn_convolution cudnn_convolution_transpose _cudnn_rnn cumprod cumsum dist dot einsum erfinv exp expm1
    frobenius_norm group_norm index_put layer_norm linalg_matrix_norm linalg_multi_dot linalg_vector_norm log log10
    log1p log2 log_softmax logsumexp mv native_layer_norm norm nuclear_norm pdist pow reciprocal renorm rms_norm
    rsqrt scatter_add sinh softmax softplus sum tan tensordot upsample_bicubic2d _upsample_bicubic2d_aa
    upsample_bilinear2d _upsample_bilinear2d_aa upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d
    _upsample_nearest_exact2d _upsample_nearest_exact3d upsample_trilinear3d vdot
"""
# and the other way round: among others Fourier transforms, which CUDA leaves in half precision
CPU_ONLY = """
    _addmm_activation _grid_sampler_2d_cpu_fallback _lu_with_info _native_multi_head_attention adaptive_avg_pool3d
    adaptive_max_pool3d avg_pool3d cat cholesky_inverse cholesky_solve cross_entropy_loss ctc_loss
    fake_quantize_per_tensor_affine fft_fft fft_fft2 fft_fftn fft_hfft fft_ifft fft_ifft2 fft_ifftn fft_ihfft fft_irfft
    fft_irfft2 fft_irfftn fft_rfft fft_rfft2 fft_rfftn fractional_max_pool2d fractional_max_pool3d geqrf
    grid_sampler_2d grid_sampler_3d index_copy inverse linalg_cholesky linalg_cholesky_ex linalg_cond linalg_eig
    linalg_eigh linalg_eigvals linalg_eigvalsh linalg_householder_product linalg_inv linalg_inv_ex linalg_lstsq
    linalg_matrix_rank linalg_qr linalg_solve linalg_svd linalg_svdvals linalg_tensorinv linalg_tensorsolve lu_solve
    max_pool3d max_unpool2d max_unpool3d mkldnn_rnn_layer multilabel_margin_loss_forward nanquantile orgqr ormqr
    pinverse polar quantile reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d replication_pad3d
    stack stft svd trace triangular_solve view_as_complex
"""
# Both treat these, with the sizes of example arguments (322: 3 x 2 x 2), and whatever follows them
SAME = {
    "addbmm": "22 322 322",
    "addmm": "22 22 22",
    "baddbmm": "322 322 322",
    "binary_cross_entropy_with_logits": "22 22",
    "bmm": "322 322",
    "cdist": "22 22",
    "conv1d": "222 222",
    "conv2d": "2222 2222",
    "conv3d": "22222 22222",
    "conv_tbc": "222 222 2",
    "conv_transpose1d": "222 222",
    "conv_transpose2d": "2222 2222",
    "conv_transpose3d": "22222 22222",
    "cosine_embedding_loss": "22 22 2",
    "hinge_embedding_loss": "22 22",
    "huber_loss": "22 22",
    "kl_div": "22 22",
    "l1_loss": "22 22",
    "linalg_vecdot": "22 22",
    "linear": "22 22",
    "margin_ranking_loss": "22 22 22",
    "matmul": "22 22",
    "mm": "22 22",
    "mse_loss": "22 22",
    "multi_margin_loss": ("22", torch.zeros(2, dtype=torch.long)),
    "multilabel_margin_loss": ("22", torch.zeros(2, 2, dtype=torch.long)),
    "nll_loss": ("22", torch.zeros(2, dtype=torch.long)),
    "nll_loss2d": ("2222", torch.zeros(2, 2, 2, dtype=torch.long)),
    "poisson_nll_loss": ("22 22", True, False, 1e-8, 1),
    "prelu": "22 2",
    "scaled_dot_product_attention": "322 322 322",
    "smooth_l1_loss": "22 22",
    "soft_margin_loss": "22 22",
    "triplet_margin_loss": "22 22 22",
}
# both treat these as well, each in its own way: in float32 on a CPU, on CUDA as said
OTHERWISE = {
    "binary_cross_entropy",  # refused
    "grid_sampler",  # in the widest type of its arguments
    "linalg_matrix_sqrth",  # not in torch's public lists; in no network here
    "prod",  # float32 result of a low argument, without a copy of it
}


def test_operators_that_the_autocasts_of_cuda_and_cpu_treat_differently():
    cuda, cpu = kernels("AutocastCUDA"), kernels("AutocastCPU")
    assert cuda - cpu == set(CUDA_ONLY.split())
    assert cpu - cuda == set(CPU_ONLY.split())
    assert cuda & cpu == SAME.keys() | OTHERWISE


@pytest.mark.parametrize("name", SAME)
def test_operators_that_both_treat_alike_have_the_same_policy(name):
    shapes, *further = (SAME[name],) if isinstance(SAME[name], str) else SAME[name]
    for given in (torch.float32, torch.bfloat16):
        tensors = [torch.ones([int(size) for size in shape], dtype=given) for shape in shapes.split()]
        with torch.autocast("cpu", torch.bfloat16):
            result = getattr(torch.ops.aten, name)(*tensors, *further)
        assert result.dtype == (torch.bfloat16 if name in LOWER else torch.float32)
        assert (name in LOWER) != (name in FLOAT32)


def test_grid_sampler_is_wide_on_a_cpu_only():
    low = torch.ones(2, 2, 2, 2, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.grid_sampler(low, low, 0, 0, False).dtype == torch.float32
    with CudaAutocast(torch.bfloat16):
        assert torch.grid_sampler(low.to("meta"), low.to("meta"), 0, 0, False).dtype == torch.bfloat16


def test_ours_differs_from_the_cpus_autocast_on_the_same_functions():
    x = torch.randn(2, 4, 3, 3).bfloat16()
    for function in (lambda t: group_norm(t, 4), lambda t: softmax(t, 1), lambda t: t**2, lambda t: t.sum(1)):
        with torch.autocast("cpu", torch.bfloat16):
            assert function(x).dtype == torch.bfloat16
        with CudaAutocast(torch.bfloat16):
            assert function(x.to("meta")).dtype == torch.float32


@pytest.fixture
def maps():
    return torch.empty(2, 4, 8, 8, 8, device="meta", dtype=torch.float16)


@pytest.mark.parametrize(
    ("function", "dtype"),
    [
        (lambda x: nn.Conv3d(4, 4, 3, device="meta")(x.float()), torch.float16),
        (lambda x: nn.Linear(8, 8, device="meta")(x.float()), torch.float16),
        (lambda x: x.float() @ x.float(), torch.float16),
        (instance_norm, torch.float16),
        (lambda x: x * 2 + x, torch.float16),
        (lambda x: group_norm(x, 4), torch.float32),
        (nn.LayerNorm(8, device="meta"), torch.float32),
        (lambda x: softmax(x, 1), torch.float32),
        (lambda x: x.softmax(dim=1), torch.float32),
        (lambda x: x**2, torch.float32),
        (lambda x: x.sum(1), torch.float32),
        (lambda x: x.sum(1, dtype=torch.float16), torch.float16),
        (lambda x: interpolate(x, scale_factor=2, mode="trilinear"), torch.float32),
        (lambda x: torch.cat((x, x.float())), torch.float32),
        (lambda x: torch.cat((x, x)), torch.float16),
        (lambda x: x.double().exp(), torch.float64),
    ],
)
def test_results_have_the_types_of_cudas_autocast(function, dtype, maps):
    with CudaAutocast(torch.float16):
        assert function(maps).dtype == dtype


def test_regions_without_autocast_are_respected(maps):
    with CudaAutocast(torch.float16), torch.autocast("cuda", enabled=False):
        assert (maps.float() @ maps.float()).dtype == torch.float32
    assert not torch.is_autocast_enabled("cuda")


def test_parameter_is_cast_once_and_its_gradient_is_wide(maps):
    layer = nn.Conv3d(4, 4, 3, device="meta")
    mode = CudaAutocast(torch.bfloat16)
    with mode:
        out = layer(maps).sum() + layer(maps).sum()
        assert len(mode._copies) == 2
    out.backward()
    assert layer.weight.grad.dtype == torch.float32
    assert not mode._copies


def test_cpu_has_no_amp():
    with pytest.raises(ValueError, match="CUDA's autocast"):
        precision_of("cpu", "amp")


def test_autocast_halves_the_maps_of_a_convolutional_network():
    wide, narrow = (predict(build("unet3d_xs"), (2, 4, *PATCH), precision=p).training for p in ("fp32", "amp"))
    assert 0.45 < narrow.pam / wide.pam < 0.65
    assert narrow.parameters == wide.parameters


def test_mixed_arguments_run_in_the_wider_type():
    wide, narrow = torch.empty(1), torch.empty(1, dtype=torch.float16)
    assert _widest(([narrow, wide], {"x": narrow}), torch.float16) is torch.float32
    assert _widest(([narrow, narrow], {"x": 1}), torch.float16) is torch.float16
