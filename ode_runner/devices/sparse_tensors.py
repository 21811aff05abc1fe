"""The parts of sparse tensors, for operations that PyTorch has for dense tensors only."""

import torch
from torch import Tensor


def dense_parts(x: Tensor) -> list[Tensor]:
    """The dense tensors of which a sparse tensor consists: indices, and values last. A dense tensor itself."""
    if x.layout == torch.sparse_coo:
        return [x._indices(), x._values()]
    if x.layout in (torch.sparse_csr, torch.sparse_bsr):
        return [x.crow_indices(), x.col_indices(), x.values()]
    if x.layout in (torch.sparse_csc, torch.sparse_bsc):
        return [x.ccol_indices(), x.row_indices(), x.values()]
    return [x]
