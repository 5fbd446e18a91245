"""Batch norm folded into the convolution before it: the same numbers, one layer less."""

from __future__ import annotations

import copy
import itertools

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_batch_norm(network: nn.Module) -> nn.Module:
    """Return a copy in evaluation mode whose convolutions have taken in the batch norms that follow them.

    Pairs are found in the order in which layers are declared, which in these networks is the order of the
    data; the engine compares what comes out with the network as it was.
    """
    folded = copy.deepcopy(network).eval()
    for parent in list(folded.modules()):
        for (name, conv), (next_name, norm) in itertools.pairwise(list(parent.named_children())):
            if (
                isinstance(conv, nn.Conv2d)
                and isinstance(norm, nn.BatchNorm2d)
                and conv.out_channels == norm.num_features
            ):
                setattr(parent, name, fuse_conv_bn_eval(conv, norm))
                setattr(parent, next_name, nn.Identity())
    return folded
