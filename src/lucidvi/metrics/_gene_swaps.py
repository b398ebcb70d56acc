"""Cells that get the values of some genes from other cells, and where a model puts them."""

import itertools
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

ROWS_PER_CALL = 20_000
_ROWS = 4096  # cells whose latents are computed at a time
_COMPARED = 16  # cells that show whether the model behind its first layer is the whole model


def counts(adata: AnnData, layer: str | None) -> Any:
    """The matrix that a model reads: ``.X``, or a layer."""
    if layer is not None and layer not in adata.layers:
        known = [name for name in adata.layers.keys() if name is not None]
        raise KeyError(f"layer={layer!r} is not in adata.layers, which has {known}.")
    x = adata.X if layer is None else adata.layers[layer]
    if x is None:
        raise ValueError("adata.X is empty; name the layer of the counts with `layer`.")
    return x


def leiden(latent: np.ndarray, resolution: float, n_neighbors: int, seed: int) -> np.ndarray:
    """Leiden clusters of cells by their latents, as numbers."""
    if find_spec("igraph") is None:
        raise ImportError(
            "Leiden clustering needs igraph: `pip install igraph`. Or name a column of clusters "
            "with `subclusters`."
        )
    import scanpy as sc  # here, since it takes seconds to import and most metrics do without

    cells = AnnData(latent)
    sc.pp.neighbors(cells, use_rep="X", n_neighbors=n_neighbors, random_state=seed)
    options = {"flavor": "igraph", "n_iterations": 2, "directed": False}
    sc.tl.leiden(cells, resolution=resolution, random_state=seed, **options)
    return cells.obs["leiden"].astype(int).to_numpy()


def swapped(x: Any, genes: np.ndarray, receivers: np.ndarray, donors: np.ndarray) -> Any:
    """Rows ``receivers`` of ``x``, with the columns ``genes`` (a mask) of the rows ``donors``."""
    if not sp.issparse(x):
        return np.where(genes, x[donors], x[receivers])
    of_set = genes[x.indices]
    given, kept = x.copy(), x.copy()
    given.data[~of_set] = 0
    kept.data[of_set] = 0
    given.eliminate_zeros()
    kept.eliminate_zeros()
    return kept[receivers] + given[donors]


def swapped_latents(
    model: Any,
    adata: AnnData,
    layer: str | None,
    receivers: np.ndarray,
    donors: np.ndarray,
    sets: np.ndarray,
    **options: Any,
) -> Iterator[np.ndarray]:
    """Latents of the receivers (cells x dimensions), for one set of genes after the other.

    ``receivers`` are indices of cells, ``donors`` indices of shape ``(sets, receivers)``, and
    ``sets`` masks of shape ``(sets, genes)``.
    """
    fast = _behind_first_layer(model, adata, receivers, donors, sets, options)
    if fast is not None:
        some = slice(0, len(receivers), max(1, len(receivers) // _COMPARED))
        own = next(_by_whole_model(model, adata, layer, receivers[some], donors[:1, some], sets[:1], options))  # fmt: skip
        first = next(fast)
        tolerance = {"rtol": 1e-3, "atol": 1e-3 * np.abs(own).max()}
        if own.shape == first[some].shape and np.allclose(first[some], own, **tolerance):
            return itertools.chain([first], fast)
    return _by_whole_model(model, adata, layer, receivers, donors, sets, options)


def _behind_first_layer(model: Any, adata: AnnData, receivers: np.ndarray, donors: np.ndarray, sets: np.ndarray, options: dict) -> Iterator[np.ndarray] | None:  # fmt: skip
    """The same by what the first layer of the encoder gives: of every set only the swapped genes change it.

    ``None`` for models that are no scvi-tools models, and for other latents than the usual ones.
    """
    from lucidvi.adapters import adapter  # here, since metrics are imported without scvi-tools

    if set(options) - {"batch_size"}:
        return None
    try:
        function = adapter(model, adata)
        cut = function.cut("latent")
    except (TypeError, ValueError, RuntimeError, KeyError):
        return None
    if not function.features.equals(adata.var_names):
        return None
    return _swapped_images(function, cut, receivers, donors, sets)


def _swapped_images(function: Any, cut: Any, receivers: np.ndarray, donors: np.ndarray, sets: np.ndarray) -> Iterator[np.ndarray]:  # fmt: skip
    import torch

    cells = np.union1d(receivers, donors)
    place, place_of_donors = np.searchsorted(cells, receivers), np.searchsorted(cells, donors)
    x, own = cut.read(function, cells)
    columns = x.tocsc()
    h = cut.affine.apply(x)
    for mask, source in zip(sets, place_of_donors, strict=True):
        genes = np.flatnonzero(mask)
        part, weight = columns[:, genes].tocsr(), cut.affine.rows(genes).cpu().numpy()
        latent = []
        for i in range(0, len(place), _ROWS):
            to = place[i : i + _ROWS]
            rows = torch.from_numpy(to).to(h.device)
            change = (part[source[i : i + _ROWS]] - part[to]) @ weight
            moved = h[rows] + torch.from_numpy(change).to(h)
            with torch.inference_mode():
                latent.append(cut(moved, {k: v[rows] for k, v in own.items()}).cpu().numpy())
        yield np.concatenate(latent)


def _by_whole_model(model: Any, adata: AnnData, layer: str | None, receivers: np.ndarray, donors: np.ndarray, sets: np.ndarray, options: dict) -> Iterator[np.ndarray]:  # fmt: skip
    """The same by a run of the whole model on cells whose values were changed."""
    cells = np.union1d(receivers, donors)
    place, place_of_donors = np.searchsorted(cells, receivers), np.searchsorted(cells, donors)
    x = counts(adata, layer)[cells]
    if sp.issparse(x):
        x = x.tocsr()
        x.sum_duplicates()
    n_calls = -(-len(sets) * len(receivers) // ROWS_PER_CALL)
    per_call = -(-len(sets) // min(n_calls, len(sets)))
    carrier = _carrier(adata, np.tile(receivers, per_call))
    try:
        for start in range(0, len(sets), per_call):
            # The last call repeats a set if it is short of one, as the carrier has a fixed size.
            chosen = np.minimum(np.arange(start, start + per_call), len(sets) - 1)
            parts = [swapped(x, sets[s], place, place_of_donors[s]) for s in chosen]
            _put(carrier, layer, sp.vstack(parts, "csr") if sp.issparse(x) else np.vstack(parts))
            with _without_info():
                latent = np.asarray(model.get_latent_representation(carrier, **options))
            yield from np.split(latent, per_call)[: len(sets) - start]
    finally:
        # scvi-tools keeps a reference to every object it has read; let it be a small one.
        _put(carrier, layer, sp.csr_matrix(carrier.shape, dtype=np.float32))


def _carrier(adata: AnnData, cells: np.ndarray) -> AnnData:
    """Annotations of cells, which may repeat, without expression.

    One object takes one set after the other, since scvi-tools registers and keeps every new one.
    """
    names = pd.RangeIndex(len(cells)).astype(str)

    def rows(value: Any) -> Any:
        return (
            value.iloc[cells].set_axis(names) if isinstance(value, pd.DataFrame) else value[cells]
        )

    return AnnData(
        obs=rows(adata.obs),
        var=adata.var.copy(),
        obsm={key: rows(value) for key, value in adata.obsm.items()},
        varm=dict(adata.varm),
        # Otherwise scvi-tools would take the carrier for a copy of `adata`.
        uns={key: value for key, value in adata.uns.items() if not key.startswith("_scvi")},
    )


@contextmanager
def _without_info() -> Iterator[None]:
    """Hold back what scvi-tools says about data it has not seen, which users did not give it."""
    logger = logging.getLogger("scvi")
    level = logger.level
    logger.setLevel(max(level, logging.WARNING))
    try:
        yield
    finally:
        logger.setLevel(level)


def _put(carrier: AnnData, layer: str | None, x: Any) -> None:
    if layer is None:
        carrier.X = x
    else:
        carrier.layers[layer] = x
