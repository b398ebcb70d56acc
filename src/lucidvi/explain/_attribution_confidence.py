"""Which of the features with large attributions a classifier needs, with controlled false discoveries."""

from collections.abc import Callable

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

from lucidvi._keys import Key
from lucidvi._validation import check_integer, near
from lucidvi.algorithms._holdout_test import ConditionalSampler, holdout_randomization_test
from lucidvi.explain._encoder import Encoder
from lucidvi.explain._model_function import model_function
from lucidvi.explain._panel_input import check_model
from lucidvi.explain._registered import registered

_MIN_CELLS = 20  # held-out cells of a label and of all others
_MAX_ROWS = 2**16  # cells evaluated at a time


def attribution_confidence(
    model: BaseModelClass,
    *,
    n_features: int = 50,
    n_draws: int = 1000,
    n_cells: int = 1000,
    key: str = Key.ATTRIBUTIONS,
    progress: bool = True,
    seed: int | None = 0,
    copy: bool = False,
) -> AnnData | MuData | None:
    r"""Give attributions of labels q-values, by redrawing features in held-out cells.

    :func:`~lucidvi.explain.attributions` says how much a classifier's output rests on each feature, not whether the
    feature tells anything about the label. Here each of the features with the largest absolute attributions is redrawn
    many times *given all other features*, in cells that training did not use. If it tells nothing about the label that
    the others do not, the classifier is as likely to predict the labels better as worse :cite:p:`Tansey2022`. The model
    is not trained again. A weak model loses power, not validity; q-values are those of Benjamini and Hochberg among
    the tested features of a label.

    For labels of SCANVI and ACE. Latent dimensions and expected expression are functions of the features: there is no
    measured outcome that a feature could tell nothing about.

    **When it holds.** As for :func:`~lucidvi.explain.panel_confidence`: labels must not come from clustering the same
    features, and cells must be independent. The redrawn values have the right means and covariances as far as these can
    be estimated from the cells.

    Parameters
    ----------
    model
        The model the attributions are of, with its data; some of its cells must have been held out.
    n_features
        Features of each column to test, those with the largest mean absolute attribution.
    n_draws
        Draws of a feature at most; the least p-value is ``1 / (n_draws + 1)``. Features without any effect need
        few.
    n_cells
        Held-out cells at most, drawn at random.
    key
        Name of the stored attributions.
    progress
        Show a progress bar.
    seed
        Seed of all draws.
    copy
        Return a copy of the data with the result instead of changing the data.

    Returns
    -------
    ``None``, or the copy. Written into the object:

    ``varm[key + "_qvals"]``
        ``float64``, features x columns as in ``varm[key]``; ``NaN`` for features not tested.
    ``uns[key]["params"]["confidence"]``
        Method and options.

    Raises
    ------
    KeyError
        If there are no attributions under the key.
    ValueError
        If they are not of a label, no cells were held out, a label or its complement has fewer than 20 of them, or an
        option is too small.

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
    check_model(model, "to test")
    adata = registered(model, model.adata)
    stored = _stored(adata, key)
    rng = np.random.default_rng(seed)
    labels = _labels(model)
    function = model_function(model)
    rows = _held_out(function.held_out_cells, labels, n_cells, rng)
    targets = stored["columns"]["target"].astype(str)
    _check_labels(labels[rows], targets)
    encoder = Encoder(model, adata.var_names)
    x = torch.cat([u.cpu() for u, *_ in encoder.read(rows)]).double().numpy()
    varying = np.flatnonzero(np.ptp(x, axis=0) > 1e-6)
    sample = ConditionalSampler(x[:, varying])
    place = adata.var_names.get_indexer(encoder.names)
    size = np.asarray(adata.varm[f"{key}_abs"])[place][varying]
    qvals = np.full((adata.n_vars, len(targets)), np.nan)
    score = _label_score(model, encoder, function.outputs("label"), rows)
    for k, target in enumerate(tqdm(targets, disable=not progress, desc="attribution confidence")):
        chosen = np.argsort(-size[:, k], kind="stable")[:n_features]
        loss = score(target, labels[rows] == target, x[:, varying], varying)
        p = holdout_randomization_test(loss, x[:, varying], sample, chosen, n_draws=n_draws, rng=rng)  # fmt: skip
        qvals[place[varying[chosen]], k] = false_discovery_control(p)
    data = model.adata.copy() if copy else model.adata
    store = registered(model, data)
    store.varm[f"{key}_qvals"] = qvals
    params = {"method": "holdout randomization", "n_features": n_features, "n_draws": n_draws, "n_cells": len(rows)}  # fmt: skip
    store.uns[key] = dict(stored) | {"params": dict(stored["params"]) | {"confidence": params}}
    return data if copy else None


def _stored(adata: AnnData, key: str) -> dict:
    found = [k for k, v in adata.uns.items() if isinstance(v, dict) and {"columns", "params"} <= set(v) and f"{k}_abs" in adata.varm]  # fmt: skip
    if key not in found:
        hint = near(key, found) if found else "There are none under another name either."
        raise KeyError(
            f"uns[{key!r}] holds no attributions. Call lucidvi.explain.attributions(model, {{'label': ...}}, key_added={key!r}) first. {hint}"
        )
    kind = str(adata.uns[key]["params"]["target"])
    if kind != "label":
        raise ValueError(
            f"uns[{key!r}] holds attributions of {kind}, but only labels can be tested: they are measured, not computed "
            "from the features."
        )
    return adata.uns[key]


def _labels(model: BaseModelClass) -> np.ndarray:
    """Label of each cell as registered; an empty text where it is not known."""
    state = model.adata_manager.get_state_registry(REGISTRY_KEYS.LABELS_KEY)
    codes = np.asarray(model.adata_manager.get_from_registry(REGISTRY_KEYS.LABELS_KEY)).ravel()
    names = np.asarray(state.categorical_mapping).astype(str)
    names[names == str(getattr(model, "unlabeled_category_", None))] = ""
    return names[codes.astype(int)]


def _held_out(rows: np.ndarray, labels: np.ndarray, n_cells: int, rng: np.random.Generator) -> np.ndarray:  # fmt: skip
    """Some of the held-out cells that have a label."""
    rows = rows[labels[rows] != ""]
    if len(rows) == 0:
        raise ValueError("No labelled cell was held out in training. Train with model.train(train_size=0.8).")  # fmt: skip
    return np.sort(rng.permutation(rows)[:n_cells])


def _check_labels(labels: np.ndarray, targets: pd.Series) -> None:
    for target in targets.unique():
        n = int((labels == target).sum())
        if min(n, len(labels) - n) < _MIN_CELLS:
            raise ValueError(
                f"Label {target!r} has {n} of {len(labels)} held-out cells, but at least {_MIN_CELLS} with it and without it are "
                "needed. Hold out more cells, or compute attributions of larger labels."
            )


def _label_score(model: BaseModelClass, encoder: Encoder, names: pd.Index, rows: np.ndarray) -> Callable:  # fmt: skip
    """Loss of a label's probability in held-out cells, as a function of the values of one feature."""
    h, rest = encoder.cut(rows)
    if hasattr(model, "neural_kmeans"):
        head = model.neural_kmeans().logits
    else:
        classifier = model.module.classifier
        head = classifier if classifier.logits else lambda z: classifier(z).clamp_min(1e-12).log()

    def score(target: str, y: np.ndarray, x: np.ndarray, features: np.ndarray) -> Callable:
        column, sign = int(names.get_loc(target)), torch.from_numpy(np.where(y, 1.0, -1.0))

        @torch.no_grad()
        def loss_of(feature: int, values: np.ndarray) -> np.ndarray:
            change = torch.from_numpy(values - x[:, feature]).float().to(h.device)
            weight = encoder.weight[features[feature]]
            step = max(1, _MAX_ROWS // len(rows))
            return np.concatenate([loss(part, weight) for part in change.split(step)])

        def loss(change: Tensor, weight: Tensor) -> np.ndarray:
            at = torch.arange(len(rows), device=h.device).repeat(len(change))
            moved = h[at] + change.flatten()[:, None] * weight
            logits = head(rest(moved, at))
            others = torch.cat([logits[:, :column], logits[:, column + 1 :]], 1).logsumexp(1)
            margin = (logits[:, column] - others).view(len(change), -1).double().cpu()
            return torch.nn.functional.softplus(-sign * margin).mean(1).numpy()

        return loss_of

    return score
