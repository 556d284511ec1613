"""Hierarchical alternating least squares, which minimise the Frobenius norm, with extrapolation.

A. Cichocki, A.-H. Phan, "Fast local algorithms for large scale nonnegative matrix and tensor factorizations",
IEICE Transactions E92-A(3), 2009. With all else fixed, the best spectrum of a component, and its best
activations, are in closed form:

    h_k = max(0, (w_k^T X - sum_j!=k w_k^T w_j h_j) / |w_k|^2)

The products W^T X and W^T W serve all components. Each factor is then continued in the direction of its last
change: A. M. S. Ang, N. Gillis, "Accelerating nonnegative matrix factorization algorithms using
extrapolation", Neural Computation 31(2), 2019.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.linalg import blas
from torch import Tensor
from torch.nn.functional import threshold

from sepnet.dsp.nmf_guard import GuardedUpdates
from sepnet.dsp.nmf_updates import Problem

FIRST_RATE = 0.4


class HierarchicalLeastSquares(GuardedUpdates):
    """Least squares for one component after the other.

    Args:
        problem: Of the Frobenius norm, without sparsity, and not cut into parts.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem, FIRST_RATE)
        self.constant = 0.5 * problem.X.square().sum(dim=-1).sum(dim=-1, dtype=torch.float64)
        self.before = [problem.W.clone(), problem.H.clone()]
        self.masks = [
            (factor > 0) if bool((factor == 0).any()) else None for factor in (problem.W, problem.H)
        ]

    def _prepare(self) -> None:
        self.products = self._dictionary_products()

    def _objective(self) -> Tensor:
        W = self.problem.W
        self._prepare()
        cross = (self.products[0] * W).sum(dim=-1).sum(dim=-1, dtype=torch.float64)
        square = (torch.bmm(W, W.mT) * self.products[1]).sum(dim=(1, 2), dtype=torch.float64)
        return self.constant - cross + 0.5 * square

    def _forget(self, risen: Tensor) -> None:
        self._prepare()
        self.before = [
            torch.where(risen, saved, before) for saved, before in zip(self.saved, self.before, strict=True)
        ]

    def _update(self, only: Tensor | None) -> None:
        problem = self.problem
        rate = torch.where(self.is_plain, 0.0, self.rate) if self.n_done else torch.zeros_like(self.rate)
        for index, factor in enumerate((problem.W, problem.H)):
            first = problem.n_fixed if index == 0 else 0
            if first == factor.shape[1]:
                continue
            num, gram = self.products if index == 0 else self._activation_products()
            before = self.before[index]
            start = factor if only is None else factor.clone()
            self._sweep(factor, num, gram, first, self.masks[index])
            self.before[index] = new = factor.clone()
            factor[:, first:].addcmul_((new - before)[:, first:], rate)
            threshold(factor, problem.smallest, 0.0, inplace=True)
            if only is not None:
                self.before[index] = torch.where(only, new, before)
                factor.copy_(torch.where(only, factor, start))

    def _dictionary_products(self) -> tuple[Tensor, Tensor]:
        """H X^T and H H^T."""
        H = self.problem.H
        return torch.bmm(H, self.problem.X.mT), torch.bmm(H, H.mT)

    def _activation_products(self) -> tuple[Tensor, Tensor]:
        """W^T X and W^T W."""
        W = self.problem.W
        return torch.bmm(W, self.problem.X), torch.bmm(W, W.mT)

    def _sweep(self, factor: Tensor, num: Tensor, gram: Tensor, first: int, mask: Tensor | None) -> None:
        """The best values of one component after the other, in place."""
        squares = gram.diagonal(dim1=1, dim2=2).unsqueeze(2).clamp_min(self.problem.smallest)
        num, gram = num / squares, gram / squares
        gram.diagonal(dim1=1, dim2=2).zero_()
        if factor.device.type == "cpu":  # NumPy's calls take less time than PyTorch's, and these are short
            for item in range(len(factor)):
                rows, row_num, row_gram = (values[item].numpy() for values in (factor, num, gram))
                _sweep_rows(rows, row_num, row_gram, first, None if mask is None else mask[item].numpy())
            return
        for k in range(first, factor.shape[1]):
            row = factor[:, k : k + 1]
            best = torch.baddbmm(num[:, k : k + 1], gram[:, k : k + 1], factor, alpha=-1)
            torch.clamp(best, min=0.0, out=row)
            if mask is not None:
                row.mul_(mask[:, k : k + 1])


def _sweep_rows(
    factor: np.ndarray, num: np.ndarray, gram: np.ndarray, first: int, mask: np.ndarray | None
) -> None:
    """The same for one item; ``num`` is overwritten."""
    gemv = blas.sgemv if factor.dtype == np.float32 else blas.dgemv
    columns, zeros = factor.T, np.zeros_like(factor[0])
    for k in range(first, len(factor)):
        best = gemv(-1.0, columns, gram[k], 1.0, num[k], overwrite_y=True)
        np.maximum(best, zeros, out=factor[k])  # with zeros in an array, in a third of the time
        if mask is not None:
            np.multiply(factor[k], mask[k], out=factor[k])
