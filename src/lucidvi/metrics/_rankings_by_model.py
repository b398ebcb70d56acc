"""Rankings of genes by methods of scvi-tools, from a trained model, and by pseudobulks of donors."""

from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

_NEEDS = {
    "scvi": "differential_expression",
    "drvi": "calculate_interpretability_scores",
    "vivs": "get_importance",
}
METHODS = tuple(_NEEDS)
_N_DRAWS = 200  # of each gene, redrawn


def check_model(method: str, model: Any) -> None:
    """Raise unless the model is one that the method needs, and trained."""
    if not hasattr(model, _NEEDS[method]) or not model.is_trained:
        given = "none" if model is None else type(model).__name__
        raise ValueError(f"Method {method!r} needs a trained model= with {_NEEDS[method]}(), as {method.upper()} has it; got {given}.")  # fmt: skip


def by_model(method: str, model: Any, adata: AnnData, groupby: str, labels: np.ndarray) -> pd.DataFrame:  # fmt: skip
    """Scores, genes x groups."""
    if list(adata.var_names) != list(model.get_var_names()):
        raise ValueError("`model` was trained with other genes than those of `adata`, or in another order. Give adata[:, model.get_var_names()].")  # fmt: skip
    score = {"scvi": _differential, "drvi": _drvi, "vivs": _vivs}[method]
    return score(model, adata, groupby, labels).reindex(adata.var_names).fillna(0.0)


def _differential(model: Any, adata: AnnData, groupby: str, labels: np.ndarray) -> pd.DataFrame:
    """Bayes factor of a change, with the sign of the change; equal factors by the size of the change."""
    scores = {}
    for group in np.unique(labels):
        inside = labels == group
        table = model.differential_expression(adata, idx1=inside, idx2=~inside, mode="change", silent=True)  # fmt: skip
        change = table["lfc_mean"]
        scores[group] = np.sign(change) * (table["bayes_factor"] - table["bayes_factor"].min() + np.tanh(change.abs()) * 1e-3)  # fmt: skip
    return pd.DataFrame(scores)


def _drvi(model: Any, adata: AnnData, groupby: str, labels: np.ndarray) -> pd.DataFrame:
    """Effects of the direction of the latent space that tells the group best, by the area under its ROC curve."""
    from sklearn.metrics import roc_auc_score

    z = model.get_latent_representation(adata)
    latent = AnnData(z)
    model.set_latent_dimension_stats(latent, adata)
    effect = model.calculate_interpretability_scores(latent, "OOD", inplace=False)
    scores = {}
    for group in np.unique(labels):
        area = np.array([roc_auc_score(labels == group, z[:, k]) for k in range(z.shape[1])])  # fmt: skip
        best = int(np.abs(area - 0.5).argmax())
        side = "positive" if area[best] > 0.5 else "negative"
        scores[group] = np.asarray(effect[f"OOD_combined_{side}"])[best]
    return pd.DataFrame(scores, index=model.get_var_names())


def _vivs(model: Any, adata: AnnData, groupby: str, labels: np.ndarray) -> pd.DataFrame:
    """How far the loss of the response lies below its values with the gene redrawn, in standard deviations of these."""
    found = model.get_importance(n_mc_samples=_N_DRAWS)
    null, groups = found["null_ts"], np.unique(labels)
    if null.shape[-1] != len(groups):
        raise ValueError(
            f"The model was trained with {null.shape[-1]} responses, but {groupby!r} has {len(groups)} groups. Register the indicators "
            "of the groups in alphabetical order, one column each."
        )
    z = (null.mean(0) - found["obs_ts"]) / np.maximum(null.std(0), 1e-12)
    return pd.DataFrame(z, model.get_var_names(), groups)


def deseq2(counts: AnnData, labels: np.ndarray, donors: np.ndarray) -> pd.DataFrame:
    """Wald statistic of DESeq2 on the sums of each donor and group, each group against the mean of the others."""
    try:
        from pydeseq2.dds import DeseqDataSet
        from pydeseq2.ds import DeseqStats
    except ImportError as error:
        raise ImportError("Method 'deseq2' needs the package pydeseq2: pip install pydeseq2.") from error  # fmt: skip
    groups = np.unique(labels)
    sums = pseudobulk(counts, labels, donors)
    code = pd.Series([f"g{np.searchsorted(groups, g)}" for g, _ in sums.index], dtype=object)
    sums.index = code.index = pd.Index([str(i) for i in range(len(sums))])
    data = DeseqDataSet(
        counts=sums, metadata=code.to_frame("group"), design="~0 + group", refit_cooks=False,
        size_factors_fit_type="poscounts", low_memory=True, n_cpus=1, quiet=True,
    )  # fmt: skip
    data.deseq2()
    columns = [str(c).rstrip("]") for c in data.obsm["design_matrix"].columns]
    scores = {}
    for g, group in enumerate(groups):
        own = np.array([c.endswith(f"g{g}") for c in columns])
        test = DeseqStats(
            data, contrast=np.where(own, 1.0, -1.0 / (len(columns) - 1)), cooks_filter=False, independent_filter=False,
            n_cpus=1, quiet=True,
        )  # fmt: skip
        test.run_wald_test()
        scores[group] = test.statistics
    return pd.DataFrame(scores).reindex(counts.var_names).fillna(0.0)


def pseudobulk(counts: AnnData, labels: np.ndarray, donors: np.ndarray) -> pd.DataFrame:
    """Sums of counts over the cells of each group and donor, ``(n_pairs, n_genes)``, whole numbers."""
    pairs = pd.MultiIndex.from_arrays([labels, donors], names=["group", "donor"])
    code, unique = pd.factorize(pairs, sort=True)
    x: Any = counts.X
    rows = [np.asarray(x[code == i].sum(0)).ravel() for i in range(len(unique))]
    if any(np.any(row != np.round(row)) or row.min() < 0 for row in rows):
        raise ValueError("Method 'deseq2' adds up counts, but the values are none. Name the layer that holds counts as `counts_layer`.")  # fmt: skip
    donors_of = pd.Series([g for g, _ in unique]).value_counts()
    if donors_of.min() < 2:
        raise ValueError(f"Method 'deseq2' needs two donors or more in each group, got {donors_of.to_dict()}.")  # fmt: skip
    return pd.DataFrame(np.stack(rows).astype(int), unique, counts.var_names)
