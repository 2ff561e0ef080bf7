"""Plans as nnU-Net writes them, small enough for tests, and networks built from them."""

import torch

from nnunet_ext.networks import registry

CHANNELS, CLASSES = 4, 3
STAGES = 5  # the fewest with which every branch and the trunk have their named stages
PATCH = 32
NEEDS_IMPORT = ("conv_op", "norm_op", "dropout_op", "nonlin")
# one network per family and number of dimensions
CASES = [(spec, dims) for spec in registry.specs() for dims in spec.dimensions]
IDS = [f"{spec.trainer}-{dims}d" for spec, dims in CASES]


def architecture(strides, kernel_sizes=None, **further):
    """``arch_kwargs`` of a plans file: classes are dotted paths, sequences are lists; one stride (z, y, x) a stage."""
    dims = len(strides[0])
    return {
        "n_stages": len(strides),
        "features_per_stage": [min(32 * 2**i, 320) for i in range(len(strides))],
        "conv_op": f"torch.nn.modules.conv.Conv{dims}d",
        "kernel_sizes": [list(k) for k in kernel_sizes or [[3] * dims] * len(strides)],
        "strides": [list(s) for s in strides],
        "n_conv_per_stage": [2] * len(strides),
        "n_conv_per_stage_decoder": [2] * (len(strides) - 1),
        "conv_bias": True,
        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dims}d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
        **further,
    }


def isotropic(dims, stages=STAGES):
    """Every stage but the first halves every axis."""
    return architecture([[1] * dims] + [[2] * dims] * (stages - 1))


def residual(dims, stages=STAGES):
    """The same topology as a ResEnc preset writes it: more, wider and deeper stages, other keys."""
    plan = isotropic(dims, stages)
    del plan["n_conv_per_stage"]
    widths = [min(32 * 2**i, 512) for i in range(stages)]
    return {**plan, "features_per_stage": widths, "n_blocks_per_stage": [1, 3, 4, 6, 6, 6, 6][:stages]}


def thick_slices(dims):
    """First strides (1, 2, 2) and kernels (1, 3, 3), as nnU-Net plans for a coarse z axis: (architecture, patch)."""
    first = [[1, 1, 1], [1, 2, 2]]
    strides = [s[3 - dims :] for s in [*first, [2, 2, 2], [2, 2, 2], [2, 2, 2]]]
    kernels = [k[3 - dims :] for k in [[1, 3, 3], [1, 3, 3], [3, 3, 3], [3, 3, 3], [3, 3, 3]]]
    return architecture(strides, kernels), (16, 32, 32)[3 - dims :]


def short_axis(dims):
    """The last axis halves once less than the others, as in 128 x 160 x 112: (architecture, patch)."""
    strides = [[1] * dims] + [[2] * dims] * 3 + [[2] * (dims - 1) + [1]]
    return architecture(strides), (32, 48, 24)[3 - dims :]


def patch_of(spec, dims):
    """A small input that the family takes."""
    return spec.input_size or (PATCH,) * dims


def build(spec, plan, patch=None, *, size=None, **options):
    """An initialised network, by default of the smallest size, from a fixed seed."""
    torch.manual_seed(0)
    channels = options.pop("input_channels", CHANNELS)
    size = size or spec.sizes[0]
    network = registry.build(spec, channels, CLASSES, plan, size=size, patch_size=patch, **options)
    if not any(p.is_meta for p in network.parameters()):
        network.apply(network.initialize)
    return network


def image(size, channels=CHANNELS, batch=1):
    """A reproducible input (B, C, Z, Y, X)."""
    return torch.randn((batch, channels, *size), generator=torch.Generator().manual_seed(1))
