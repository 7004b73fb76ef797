"""Weights in the order in which the kernels read them: panels of 16 columns, the last filled with zeros."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

_COLUMNS = 16


def pack_panels(matrices: Tensor) -> Tensor:
    """(..., K, columns) to (..., panels, K, 16) contiguous."""
    filled = F.pad(matrices, (0, -matrices.shape[-1] % _COLUMNS))
    by_panel: Tensor = filled.unflatten(-1, (-1, _COLUMNS))  # (..., K, panels, 16)
    return by_panel.transpose(-3, -2).contiguous()
