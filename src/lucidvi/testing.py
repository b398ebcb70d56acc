"""A test that an adapter keeps its contract, for the models of this package and of others."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager as _contextmanager
from tempfile import TemporaryDirectory
from unittest.mock import patch as _patch

import numpy as np
import torch
from anndata import AnnData
from mudata import MuData
from scvi.model.base import BaseModelClass
from torch import Tensor

from lucidvi.adapters import Adapter
from lucidvi.adapters import adapter as _adapter

__all__ = ["check_adapter"]

_N_CELLS = 4
_N_STEPS = 400  # points on a path, for the sum of integrated gradients
_SAME = 1e-3  # relative difference from public methods


def check_adapter(
    model: BaseModelClass, *, modality: str | None = None, save: bool = True, seed: int = 0
) -> None:
    """Test whether an adapter represents its trained model correctly.

    The test covers every kind of output. The output must agree with the model's own public methods,
    with random draws replaced by their mean. Its gradient must agree with finite differences.
    Integrated gradients must sum to the difference of the outputs. A repeated evaluation must give
    the same output, which must not depend on the other cells of the minibatch. The outputs of a
    cell must not change if cells or features are reordered, if other cells are left out, or after
    the model is saved and loaded. If the model can be cut behind its first layer, the part behind
    it must give the same outputs as the whole model.

    Parameters
    ----------
    model
        Trained model with its data, of 20 cells or more.
    modality
        Modality of a MuData, or layer, whose features are explained; by default all, one after the
        other.
    save
        Whether to save the model to a temporary folder and load it again.
    seed
        Seed of the choice of cells and directions.

    Raises
    ------
    AssertionError
        If a check fails. The message names the check and the size of the deviation.

    Examples
    --------
    >>> import lucidvi as lv
    >>> import scvi
    >>> adata = scvi.data.synthetic_iid(batch_size=30, n_genes=10)
    >>> scvi.model.SCVI.setup_anndata(adata, batch_key="batch")
    >>> model = scvi.model.SCVI(adata, n_latent=3, n_hidden=8)
    >>> model.train(2, enable_progress_bar=False)
    >>> lv.testing.check_adapter(model, save=False)
    """
    names = list(_adapter(model).inputs()) if modality is None else [modality]
    for name in names:
        function = _adapter(model, modality=name)
        rng = np.random.default_rng(seed)
        cells = rng.permutation(len(function.cells))[:_N_CELLS]
        for kind in function.kinds:
            where = f"{function.model_name}, {kind}" + (f" by {name}" if name else "")
            expected = _outputs(function, cells, kind)
            _check(bool(np.isfinite(expected).all()), f"{where}: values that are not finite")
            _check_public(function, cells, kind, expected, where)
            _check_repeated(function, cells, kind, expected, where)
            _check_gradient(function, cells, kind, rng, where)
            _check_cut(function, cells, kind, where)
            _check_data(model, function, name, cells, kind, expected, rng, where)
            if save:
                _check_saved(model, function, name, cells, kind, expected, where)


@torch.no_grad()
def _outputs(function: Adapter, cells: np.ndarray, kind: str) -> np.ndarray:
    """Return all outputs of a kind of some cells, given by position."""
    tensors = function.minibatch(cells)
    return function.evaluate(function.values(tensors), tensors, kind).cpu().numpy()


def _check(holds: bool, what: str) -> None:
    if not holds:
        raise AssertionError(what)


def _check_same(found: np.ndarray, expected: np.ndarray, tolerance: float, what: str) -> None:
    _check(found.shape == expected.shape, f"{what}: shape {found.shape}, expected {expected.shape}")
    size = np.abs(expected).mean() + 1e-12
    gap = np.abs(found - expected) / (np.abs(expected) + size)
    _check(gap.max() <= tolerance, f"{what}: differs by {gap.max():.2g}, allowed {tolerance:g}")


def _check_public(function: Adapter, cells: np.ndarray, kind: str, expected: np.ndarray, where: str) -> None:  # fmt: skip
    with _drawing_means():
        public = function.public(kind, cells)
    if public is not None:
        _check_same(expected, public, _SAME, f"{where}: adapter and public method")


def _check_repeated(function: Adapter, cells: np.ndarray, kind: str, expected: np.ndarray, where: str) -> None:  # fmt: skip
    state = torch.get_rng_state()
    again = _outputs(function, cells, kind)
    _check(np.array_equal(again, expected), f"{where}: another answer the second time")
    _check(torch.equal(state, torch.get_rng_state()), f"{where}: moves the random state")
    for others in (cells[:1], cells[::-1], np.concatenate([cells, cells[:2], [0, 1]])):
        found = _outputs(function, others, kind)
        place = [list(cells).index(c) for c in others if c in cells]
        kept = np.isin(others, cells)
        _check_same(found[kept], expected[place], 1e-4, f"{where}: depends on the minibatch")


def _check_gradient(function: Adapter, cells: np.ndarray, kind: str, rng: np.random.Generator, where: str) -> None:  # fmt: skip
    tensors = function.minibatch(cells)
    end = function.values(tensors)
    start = end.flip(0) * 0.5 + 0.25 * end  # another cell, so that nothing is empty
    weight = torch.from_numpy(rng.standard_normal(len(function.output(kind).names))).to(end)
    with torch.no_grad():
        size = function.evaluate(end, tensors, kind).abs().mean() + 1e-12

    def value(x: Tensor) -> Tensor:
        return (function.evaluate(x, tensors, kind) / size) @ weight

    def slopes(x: Tensor) -> Tensor:
        x = x.detach().requires_grad_(True)
        total = value(x).sum()
        _check(total.requires_grad, f"{where}: no gradient")
        return torch.autograd.grad(total, x)[0]

    gradient = slopes(end)
    norm = float(gradient.norm())
    _check(norm > 0, f"{where}: no gradient")
    gaps = []
    for step in (1e-2, 3e-3, 1e-3):  # small for corners of activations, large for rounding
        with torch.no_grad():
            ends = [value(end + s * step / norm * gradient).cpu().double().sum() for s in (1, -1)]
        gaps.append(abs((ends[0] - ends[1]).item() / (2 * step) - norm) / norm)
    _check(min(gaps) <= 0.05, f"{where}: the gradient differs from finite differences by {min(gaps):.1%}")  # fmt: skip
    total = torch.zeros_like(end)
    for i in range(_N_STEPS):
        total += slopes(start + (i + 0.5) / _N_STEPS * (end - start)) / _N_STEPS
    summed = (total * (end - start)).sum(1)
    with torch.no_grad():
        change = value(end) - value(start)
    gap = float((summed - change).abs().max() / (change.abs().max() + 1e-6))
    _check(gap <= 0.02, f"{where}: integrated gradients miss the difference by {gap:.1%}")


def _check_cut(function: Adapter, cells: np.ndarray, kind: str, where: str) -> None:
    try:
        cut = function.cut(kind)
    except TypeError:
        return
    expected = _outputs(function, cells, kind)
    x, own = cut.read(function, cells)
    with torch.no_grad():
        found = cut(cut.affine.apply(x), own).cpu().numpy()
    _check_same(found, expected, _SAME, f"{where}: behind the first layer")


def _check_data(
    model: BaseModelClass, function: Adapter, name: str | None, cells: np.ndarray, kind: str,
    expected: np.ndarray, rng: np.random.Generator, where: str,
) -> None:  # fmt: skip
    """Other orders of cells and features, and fewer cells."""
    data, names = function.data, function.cells[cells]
    n = data.n_obs
    order = rng.permutation(n)
    kept = np.setdiff1d(np.arange(n), rng.permutation(n)[: n // 12])
    kept = np.union1d(kept, data.obs_names.get_indexer(names))
    versions = {
        "cells in another order": data[order].copy(),
        "fewer cells": data[kept].copy(),
        "features in another order": _features_reversed(data),
    }
    for what, other in versions.items():
        again = _adapter(model, other, modality=name)
        found = _outputs(again, again.cells.get_indexer(names), kind)
        _check_same(found, expected, 1e-4, f"{where}: {what}")


def _features_reversed(data: AnnData | MuData) -> AnnData | MuData:
    if isinstance(data, AnnData):
        return data[:, ::-1].copy()
    other = MuData({name: part[:, ::-1].copy() for name, part in data.mod.items()})
    other.obs = data.obs.copy()
    return other


def _check_saved(
    model: BaseModelClass, function: Adapter, name: str | None, cells: np.ndarray, kind: str,
    expected: np.ndarray, where: str,
) -> None:  # fmt: skip
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of scvi-tools, about devices and back ends
        model.save(f"{folder}/model")
        loaded = type(model).load(f"{folder}/model", adata=function.registered.copy())
        again = _adapter(loaded, modality=name)
        _check_same(_outputs(again, cells, kind), expected, 1e-4, f"{where}: saved and loaded")
        held_out = [f.cells[f.held_out_cells].tolist() for f in (function, again)]
        _check(held_out[0] == held_out[1], f"{where}: other held-out cells after loading")


@_contextmanager
def _drawing_means() -> Iterator[None]:
    """Let normal distributions draw their means, so that public methods that draw can be compared."""

    def mean_of(normal: torch.distributions.Normal, shape: tuple = ()) -> Tensor:
        return normal.mean.expand(*shape, *normal.mean.shape)

    def mean_alone(mean: float, std: float, size: tuple, **options: object) -> Tensor:
        return torch.full(size, mean, **options)  # type: ignore[call-overload]

    with (
        _patch.object(torch.distributions.Normal, "sample", mean_of),
        _patch.object(torch.distributions.Normal, "rsample", mean_of),
        _patch.object(torch, "normal", mean_alone),
    ):
        yield
