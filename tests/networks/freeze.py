"""``python -m tests.networks.freeze [NETWORK ...]`` writes the names and shapes of all weights as they are now.

New networks are added and deleted ones removed. A network that is already there keeps its entry unless it is named
(by its trainer's name, ``DualBranchGhost``): its existing checkpoints can then no longer be loaded.
"""

import hashlib
import json
import sys
from pathlib import Path

import torch

from tests.networks import plans

FROZEN = Path(__file__).with_name("state_dict_keys.json")


def fingerprint(spec, dims):
    """Hash of the sorted (key, shape) pairs of the family's smallest size."""
    with torch.device("meta"):
        network = plans.build(spec, plans.isotropic(dims), plans.patch_of(spec, dims))
    pairs = sorted((key, list(value.shape)) for key, value in network.state_dict().items())
    return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()


def frozen():
    """Case -> fingerprint, as committed."""
    return json.loads(FROZEN.read_text())


def freeze(renewed):
    known = frozen() if FROZEN.exists() else {}
    for case, (spec, dims) in zip(plans.IDS, plans.CASES, strict=True):
        if case not in known or spec.trainer in renewed:
            known[case] = fingerprint(spec, dims)
    table = {case: known[case] for case in sorted(plans.IDS)}
    FROZEN.write_text(json.dumps(table, indent=2) + "\n")


if __name__ == "__main__":
    freeze(sys.argv[1:])
