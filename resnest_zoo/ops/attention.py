"""The two passes of split attention over a feature map; what lies between them is small.

Legend: N images, R radix, C channels of a split, H and W.
"""

from __future__ import annotations

from torch import Tensor

from resnest_zoo.ops import choice


def split_attention_gap(x: Tensor, radix: int, *, implementation: str | None = None) -> Tensor:
    """The mean over the map of the sum of the splits.

    Args:
        x: (N, R * C, H, W), channels last for speed.
        radix: R.
        implementation: one of `choice.TABLE`; None takes the fastest that can.

    Returns:
        (N, C).

    Raises:
        ZooError: the implementation asked for cannot take the arguments.

    Source: Zhang et al., "ResNeSt", 2020, equation 1.
    """
    module = choice.choose("split_attention", x, radix, implementation=implementation)
    means: Tensor = module.split_attention_gap(x, radix)
    return means


def split_attention_mix(x: Tensor, attention: Tensor, *, implementation: str | None = None) -> Tensor:
    """The sum of the splits, each channel of each weighted.

    Args:
        x: (N, R * C, H, W), channels last for speed.
        attention: (N, R, C).
        implementation: one of `choice.TABLE`; None takes the fastest that can.

    Returns:
        (N, C, H, W).

    Raises:
        ZooError: the implementation asked for cannot take the arguments.

    Source: Zhang et al., "ResNeSt", 2020, equation 2.
    """
    module = choice.choose("split_attention", x, attention.shape[1], implementation=implementation)
    mixed: Tensor = module.split_attention_mix(x, attention)
    return mixed
