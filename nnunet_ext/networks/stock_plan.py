"""The plan that nnU-Net's default planner makes for BraTS, as plain data: the yardstick of all cost tables.

3D: patch 128x128x128, batch 2; 2D: patch 192x160. Read from the plans of the converted BraTS cases.
"""

from collections.abc import Mapping
from typing import Any

INPUT_CHANNELS = 4
OUTPUT_CHANNELS = 3
PATCHES: Mapping[int, tuple[int, ...]] = {3: (128, 128, 128), 2: (192, 160)}
STAGES = 6


def stock_plan(dims: int = 3, n_stages: int = STAGES) -> dict[str, Any]:
    """``arch_kwargs`` of nnU-Net's plan for BraTS in 2D or 3D, with dotted paths as in a plans file."""
    cap = 320 if dims == 3 else 512
    return {
        "n_stages": n_stages,
        "features_per_stage": [min(32 * 2**i, cap) for i in range(n_stages)],
        "conv_op": f"torch.nn.modules.conv.Conv{dims}d",
        "kernel_sizes": [[3] * dims] * n_stages,
        "strides": [[1] * dims] + [[2] * dims] * (n_stages - 1),
        "n_conv_per_stage": [2] * n_stages,
        "n_conv_per_stage_decoder": [2] * (n_stages - 1),
        "conv_bias": True,
        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dims}d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
