"""Which of the features with large attributions a classifier needs, with controlled false discoveries."""

from collections.abc import Callable
from typing import cast

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from mudata import MuData
from scipy.stats import false_discovery_control
from scvi import REGISTRY_KEYS
from scvi.model.base import BaseModelClass
from torch import Tensor
from tqdm.auto import tqdm

from lucidvi._arguments import checked
from lucidvi._keys import Key
from lucidvi._logging import warn
from lucidvi._validation import check_integer
from lucidvi.adapters import Adapter, Cut, adapter
from lucidvi.adapters._base import CHUNK
from lucidvi.algorithms._holdout_test import ConditionalSampler, holdout_randomization_test
from lucidvi.explain._cells import labels_of_cells
from lucidvi.explain._results import Place, check_origin, read

_MIN_CELLS = 20  # held-out cells of a label and of all others
_MAX_ROWS = 2**16  # cells evaluated at a time


@checked
def attribution_confidence(
    model: BaseModelClass,
    *,
    n_features: int = 50,
    n_draws: int = 1000,
    n_cells: int = 1000,
    key: str = Key.ATTRIBUTIONS,
    modality: str | None = None,
    adata: AnnData | MuData | None = None,
    seed: int | None = 0,
    copy: bool = False,
    progress: bool = True,
) -> AnnData | MuData | None:
    r"""Compute q-values for attributions of labels by resampling features in held-out cells.

    :func:`~lucidvi.explain.attributions` shows how strongly a classifier's output depends on each
    feature. It does not show whether the feature carries information about the label. This function
    tests the features with the largest absolute attributions. It resamples each of them many times
    from its distribution *given all other features*, in held-out cells. Under the null (the feature
    is conditionally independent of the label), resampling it is equally likely to raise or lower
    the classifier's loss :cite:p:`Tansey2022`. The model is not retrained. A weak model reduces the
    power of the test, but the test remains valid. The q-values are Benjamini-Hochberg q-values over
    the tested features of a label.

    The test applies only to labels that the model was given, such as those of SCANVI and ACE. It
    does not apply to latent dimensions and expected expression. These are functions of the
    features, so there is no measured outcome against which a feature could be tested.

    **When it holds.** The assumptions are those of :func:`~lucidvi.explain.panel_confidence`:
    labels must not come from clustering the same features, and cells must be independent. The
    resampled values have the right means and covariances as far as these can be estimated from the
    cells.

    Parameters
    ----------
    model
        The model that was explained, with its data. Some of its cells must have been held out of
        training.
    n_features
        Number of features to test in each column: those with the largest mean absolute attribution.
    n_draws
        Largest number of random draws for a feature. The smallest possible p-value is
        ``1 / (n_draws + 1)``. Features without any effect need few draws.
    n_cells
        Largest number of held-out cells, drawn at random.
    key
        Name of the stored attributions.
    modality
        Modality of a MuData, or layer, whose features have the attributions; by default the first
        one that the model reads.
    adata
        Data with the attributions instead of the model's data.
    seed
        Seed of all random draws.
    copy
        Return a changed copy of the data instead of changing the data in place.
    progress
        Show a progress bar.

    Returns
    -------
    ``None``, or the copy. The result is written into the object:

    ``varm[key + "_qvals"]``
        q-values, ``float64``, features x columns as in ``varm[key]``; ``NaN`` for features that
        were not tested.
    ``uns[key]["params"]["confidence"]``
        Method and options.

    Raises
    ------
    KeyError
        If there are no attributions under the key.
    ValueError
        If the attributions are not those of a label, no cells were held out, a label or its
        complement has fewer than 20 held-out cells, or an option is too small.

    Examples
    --------
    >>> import lucidvi as lv
    >>> adata = lv.datasets.ace_simulation(n_cells=400, n_dependent=20, n_noise=20)
    >>> group = adata.obs["group"].iloc[0]
    >>> lv.model.ACE.setup_anndata(adata, labels_key="group")
    >>> model = lv.model.ACE(adata, n_latent=5, hidden=(64, 32))
    >>> model.train(max_epochs=4, train_size=0.5, enable_progress_bar=False)
    >>> lv.explain.attributions(model, {"label": group}, progress=False)
    >>> lv.explain.attribution_confidence(model, n_features=5, n_draws=50, progress=False)
    >>> int((~np.isnan(adata.varm["attributions_qvals"])).sum())
    5
    """
    for value, name in ((n_features, "n_features"), (n_draws, "n_draws"), (n_cells, "n_cells")):
        check_integer(value, 1, name)
    function = adapter(model, adata, modality=modality)
    stored = _stored(function.store(function.data), key)
    groupby = stored["params"].get("groupby")
    check_origin(stored, key, function, labels_of_cells(function, groupby))
    place = Place(function, key, "attributions", copy=copy, fresh=False)
    store = place.store
    names = function.output("label").names
    rng = np.random.default_rng(seed)
    labels = _labels(function)
    rows = _held_out(function.held_out_cells, labels, n_cells, rng)
    targets = stored["columns"]["target"].astype(str)
    testable = _testable(labels[rows], targets)
    cut = function.cut("label")
    x, h, own = _behind_layer(function, cut, rows)
    varying = np.flatnonzero(np.ptp(x, axis=0) > 1e-6)
    sample = ConditionalSampler(x[:, varying])
    at = store.var_names.get_indexer(function.features)
    size = np.asarray(store.varm[f"{key}_abs"])[at][varying]
    qvals = np.full((store.n_vars, len(targets)), np.nan)
    score = _label_score(function, cut, h, own)
    for k, target in enumerate(tqdm(targets, disable=not progress, desc="attribution confidence")):
        if target not in testable:
            continue
        chosen = np.argsort(-size[:, k], kind="stable")[:n_features]
        column = int(names.get_loc(target))
        loss = score(column, labels[rows] == target, x[:, varying], varying)
        p = holdout_randomization_test(loss, x[:, varying], sample, chosen, n_draws=n_draws, rng=rng)  # fmt: skip
        qvals[at[varying[chosen]], k] = false_discovery_control(p)
    test = {"method": "holdout randomization", "n_features": n_features, "n_draws": n_draws, "n_cells": len(rows)}  # fmt: skip
    params = dict(stored["params"]) | {"confidence": test}
    place.write(stored | {"params": params}, varm={f"{key}_qvals": qvals})
    return place.returned


def _stored(store: AnnData, key: str) -> dict:
    result = read(store, key, ("columns", "params"), "attributions", "attributions")
    kind = str(result["params"]["target"])
    if kind != "label":
        raise ValueError(
            f"uns[{key!r}] holds attributions of {kind}, but only labels can be tested: they are measured, not computed "
            "from the features."
        )
    return result


def _labels(function: Adapter) -> np.ndarray:
    """Return the label of each cell as registered; an empty text where the model does not know it."""
    if not function.labels_registered:
        raise ValueError(
            f"The labels of this {function.model_name} were found in the features by clustering, so they cannot be tested. "
            "Set the model up with a labels_key."
        )
    state = function.manager.get_state_registry(REGISTRY_KEYS.LABELS_KEY)
    codes = np.asarray(function.manager.get_from_registry(REGISTRY_KEYS.LABELS_KEY)).ravel()
    names = np.asarray(state.categorical_mapping).astype(str)
    known = np.where(np.isin(names, function.output("label").names), names, "")
    return known[codes.astype(int)]


def _behind_layer(function: Adapter, cut: Cut, rows: np.ndarray) -> tuple[np.ndarray, Tensor, dict[str, Tensor]]:  # fmt: skip
    """Return values of cells, their affine image, and what else is their own."""
    values, images, own = [], [], []
    for i in range(0, len(rows), CHUNK):
        tensors = function.minibatch(rows[i : i + CHUNK])
        x = function.values(tensors)
        values.append(x.cpu())
        images.append(x @ cast("Tensor", cut.affine_weight))
        own.append(cut.own_values(tensors))
    joined = {k: torch.cat([part[k] for part in own]) for k in own[0]}
    return torch.cat(values).double().numpy(), torch.cat(images), joined


def _held_out(rows: np.ndarray, labels: np.ndarray, n_cells: int, rng: np.random.Generator) -> np.ndarray:  # fmt: skip
    """Some of the held-out cells that have a label."""
    rows = rows[labels[rows] != ""]
    if len(rows) == 0:
        raise ValueError("No labelled cell was held out in training. Train with model.train(train_size=0.8).")  # fmt: skip
    return np.sort(rng.permutation(rows)[:n_cells])


def _testable(labels: np.ndarray, targets: pd.Series) -> set[str]:
    """Return labels with enough cells, a warning naming the others; an error if there are none."""
    count = {target: int((labels == target).sum()) for target in targets.unique()}
    small = {t: n for t, n in count.items() if min(n, len(labels) - n) < _MIN_CELLS}
    if small:
        shown = ", ".join(f"{t!r} ({n} of {len(labels)})" for t, n in small.items())
        said = f"Labels with fewer than {_MIN_CELLS} held-out cells with or without them: {shown}"
        if len(small) == len(count):
            raise ValueError(
                f"{said}. Raise n_cells, hold out more cells, or compute attributions of larger labels."
            )
        warn("%s. They are not tested.", said)
    return set(count) - set(small)


def _label_score(function: Adapter, cut: Cut, h: Tensor, own: dict[str, Tensor]) -> Callable:
    """Loss of a label's probability in held-out cells, as a function of the values of one feature."""
    is_probability = function.output("label").scale == "probability"
    weights = cast("Tensor", cut.affine_weight)

    def margins(moved: Tensor, at: Tensor, column: int) -> Tensor:
        score = cut(moved, {k: v[at] for k, v in own.items()})
        logits = score.clamp_min(1e-12).log() if is_probability else score
        others = torch.cat([logits[:, :column], logits[:, column + 1 :]], 1).logsumexp(1)
        return logits[:, column] - others

    def score(column: int, y: np.ndarray, x: np.ndarray, features: np.ndarray) -> Callable:
        sign = torch.from_numpy(np.where(y, 1.0, -1.0))

        @torch.no_grad()
        def loss_of(feature: int, values: np.ndarray) -> np.ndarray:
            change = torch.from_numpy(values - x[:, feature]).float().to(h.device)
            step = max(1, _MAX_ROWS // len(h))
            return np.concatenate([loss(part, weights[features[feature]]) for part in change.split(step)])  # fmt: skip

        def loss(change: Tensor, weight: Tensor) -> np.ndarray:
            at = torch.arange(len(h), device=h.device).repeat(len(change))
            moved = h[at] + change.flatten()[:, None] * weight
            margin = margins(moved, at, column).view(len(change), -1).cpu().double()
            return torch.nn.functional.softplus(-sign * margin).mean(1).numpy()

        return loss_of

    return score
