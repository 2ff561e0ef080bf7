"""What the transformer families share: the block and the initial weights.

Shape letters: B batch, N tokens, C channels.
"""

import torch
from dynamic_network_architectures.initialization.weight_init import InitWeights_He
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

MLP_RATIO = 4  # usual hidden width of the perceptron, in multiples of the block's
INITIAL_STD = 0.02

_initialize_convolution = InitWeights_He(1e-2)  # as nnU-Net's own networks


def position_parameter(*shape: int) -> nn.Parameter:
    """A learnt position table with its initial values."""
    table = nn.Parameter(torch.empty(shape))
    nn.init.trunc_normal_(table, std=INITIAL_STD)
    return table


def initialize(module: nn.Module) -> None:
    """Initial weights of convolutions and linear layers; position tables and norms have theirs from the start."""
    _initialize_convolution(module)
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=INITIAL_STD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def split_heads(qkv: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """(B, N, 3C) -> queries, keys and values (B, heads, N, C / heads)."""
    q, k, v = qkv.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    return q, k, v


class SelfAttention(nn.Module):
    """Attention of all tokens to all tokens, (B, N, C) -> (B, N, C)."""

    def __init__(self, channels: int, heads: int, *, qkv_bias: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels, bias=qkv_bias)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mixes the tokens; ``mask``, broadcast to (B, heads, N, N), is true where one may look at another."""
        mixed = scaled_dot_product_attention(*split_heads(self.qkv(x), self.heads), attn_mask=mask)
        return self.proj(mixed.transpose(1, 2).flatten(2))


class Mlp(nn.Sequential):
    """Two linear layers with an activation between them, on the last axis."""

    def __init__(self, channels: int, ratio: int = MLP_RATIO, act: type[nn.Module] = nn.GELU) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, ratio * channels)
        self.act = act()
        self.fc2 = nn.Linear(ratio * channels, channels)


class TransformerBlock(nn.Module):
    """Attention and perceptron, each after a layer norm and beside a shortcut; channels are the last axis."""

    def __init__(self, channels: int, attention: nn.Module, mlp: nn.Module | None = None) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attention = attention
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = mlp or Mlp(channels)

    def forward(self, x: Tensor, *context: Tensor | None) -> Tensor:
        """The same shape as ``x``; ``context`` is what else the attention reads."""
        x = x + self.attention(self.norm1(x), *context)
        return x + self.mlp(self.norm2(x))
