"""Rankings of genes by the methods that people would use instead."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from lucidvi._arguments import checked
from lucidvi._validation import check_integer, check_obs_key, near
from lucidvi.metrics._rankings import cell_groups
from lucidvi.metrics._rankings_by_model import METHODS, by_model, check_model, deseq2

_SCANPY = {"t-test": "t-test", "wilcoxon": "wilcoxon", "logreg": "logreg"}
_ABSOLUTE = " (absolute)"
_BOOSTING_STEPS = 200
_LEAST_CELLS = 3  # of a group


@checked
def rankings(
    adata: AnnData,
    groupby: str,
    methods: str | Sequence[str] = ("t-test", "wilcoxon", "lasso"),
    *,
    layer: str | None = None,
    model: Any = None,
    donor_key: str | None = None,
    counts_layer: str | None = None,
    n_genes: int | None = None,
    seed: int | None = 0,
) -> dict[str, pd.DataFrame]:
    """Rank the genes of each group by other methods, for comparison with a panel.

    Parameters
    ----------
    adata
        Log-normalised expression.
    groupby
        Column of ``obs`` with the groups.
    methods
        One or several of the following methods. Each compares a group with all other cells.

        * ``"t-test"``, ``"wilcoxon"``, ``"logreg"``: :func:`scanpy.tl.rank_genes_groups`, genes
          that are highest in the group first. With ``" (absolute)"`` after the name, genes are
          ranked by the absolute score, so that genes that are low in the group also count.
        * ``"lasso"``: absolute coefficients of a multinomial logistic regression with an L1 penalty
          on standardised genes, fitted by scikit-learn. This is the strongest simple method if
          genes depend on each other.
        * ``"discriminant"``: absolute coefficients of linear discriminant analysis with a shrunk
          covariance, the best over the other groups.
        * ``"cosg"``: cosine similarity with the group :cite:p:`Dai2022`, by the package ``cosg``.
        * ``"structboost"``: absolute coefficients of componentwise boosting of the groups on
          standardised genes, by the package ``structboost``.
        * ``"deseq2"``: Wald statistic of DESeq2 on pseudobulks, the sums of counts of each group
          and donor, by pydeseq2. Needs ``donor_key`` and ``counts_layer``. Signed, or
          ``" (absolute)"``.
        * ``"scvi"``: Bayes factor of the model's own ``differential_expression``. Signed, or
          ``" (absolute)"``.
        * ``"drvi"``: gene effects of the latent direction of a :class:`scvi.external.DRVI` that
          identifies the group best.
        * ``"vivs"``: increase of the error with which a :class:`scvi.external.VIVS` predicts the
          group after the gene is resampled. Its responses must be indicators of the groups, in
          alphabetical order.
    layer
        Layer with the values; by default ``.X``.
    model
        Trained model for ``"scvi"``, ``"drvi"`` and ``"vivs"``, of the same cells and genes.
    donor_key
        Column of ``obs`` with donors, for ``"deseq2"``.
    counts_layer
        Layer with counts, for ``"deseq2"``; by default ``.X``.
    n_genes
        Number of genes for each group; all by default.
    seed
        Seed of the lasso's solver.

    Returns
    -------
    A mapping with one table for each method. A table has one column for each group, with the best
    genes first. :func:`~lucidvi.metrics.panel_overlap` takes the mapping.
    :func:`~lucidvi.metrics.panel_auroc`, :func:`~lucidvi.metrics.panel_redundancy` and
    :func:`~lucidvi.metrics.panel_stability` take the tables.

    Raises
    ------
    KeyError
        If the column or the layer does not exist.
    ValueError
        If a method is unknown or lacks its model, counts or donors, or there are fewer than two
        groups of at least 3 cells.
    ImportError
        If the package of a method is not installed.

    Examples
    --------
    >>> import lucidvi as lv
    >>> adata = lv.datasets.ace_simulation(n_cells=200)
    >>> found = lv.metrics.rankings(adata, "group", ["t-test (absolute)", "lasso"], n_genes=10)
    >>> found["lasso"].shape
    (10, 5)
    """
    signed = [*_SCANPY, "deseq2", "scvi"]
    known = [*(name + end for name in signed for end in ("", _ABSOLUTE)), *_OTHERS, "drvi", "vivs"]  # fmt: skip
    wanted = [methods] if isinstance(methods, str) else [str(name) for name in methods]
    for name in wanted:
        if name not in known:
            raise ValueError(f"Method {name!r} is unknown. {near(name, known)} Allowed: {', '.join(known)}.")  # fmt: skip
        if name in METHODS or name.startswith("scvi"):
            check_model(name.removesuffix(_ABSOLUTE), model)
        if name.startswith("deseq2") and donor_key is None:
            raise ValueError(f"Method {name!r} adds up the counts of each donor. Name their column as `donor_key`.")  # fmt: skip
    if n_genes is not None:
        check_integer(n_genes, 1, "n_genes")
    check_obs_key(adata.obs, groupby, "groupby")
    for one, what in ((layer, "layer"), (counts_layer, "counts_layer")):
        if one is not None and one not in adata.layers:
            raise KeyError(f"{what}={one!r} is not in .layers. There are: {[name for name, _ in adata.layers.items() if name]}.")  # fmt: skip
    labels = cell_groups(adata.obs[groupby].to_numpy(), adata.n_obs)
    sizes = pd.Series(labels, dtype=object).value_counts()
    if len(sizes) < 2 or sizes.min() < _LEAST_CELLS:
        raise ValueError(
            f"groupby={groupby!r} needs at least two groups of {_LEAST_CELLS} cells, got {sizes.to_dict()}. Merge or drop groups."
        )
    donors = np.array([])
    if donor_key is not None:
        check_obs_key(adata.obs, donor_key, "donor_key")
        donors = cell_groups(adata.obs[donor_key].to_numpy(), adata.n_obs)
    x = adata.X if layer is None else adata.layers[layer]
    data = AnnData(x, obs=pd.DataFrame({"group": pd.Categorical(labels)}, index=adata.obs_names), var=adata.var[[]])  # fmt: skip
    found = {}
    for name in wanted:
        plain = name.removesuffix(_ABSOLUTE)
        if plain in _SCANPY:
            scores = _scanpy(data, plain)
        elif plain in METHODS:
            scores = by_model(plain, model, adata, groupby, labels)
        elif plain == "deseq2":
            counts = adata.X if counts_layer is None else adata.layers[counts_layer]
            scores = deseq2(AnnData(counts, var=data.var), labels, donors)
        else:
            scores = _OTHERS[name](data, seed)
        scores = scores.abs() if plain != name else scores
        found[name] = pd.DataFrame({
            group: scores.index[np.argsort(-scores[group].to_numpy(), kind="stable")][:n_genes] for group in scores
        })  # fmt: skip
    return found


def _scanpy(data: AnnData, method: str) -> pd.DataFrame:
    """Scores of scanpy, genes x groups."""
    import scanpy as sc

    copy = data.copy()
    sc.tl.rank_genes_groups(copy, "group", method=method)
    result = copy.uns["rank_genes_groups"]
    columns = {g: pd.Series(result["scores"][g], result["names"][g]) for g in result["names"].dtype.names}  # fmt: skip
    groups = list(data.obs["group"].cat.categories)
    if len(columns) < len(groups):
        # of two groups, scanpy calls the coefficients of the second those of the first
        columns = {groups[0]: -columns[groups[0]], groups[1]: columns[groups[0]]}
    return pd.DataFrame(columns)[groups].reindex(data.var_names).fillna(0.0)


def _dense(data: AnnData) -> tuple[np.ndarray, np.ndarray]:
    """Standardised values, and the group of each cell by number."""
    values: Any = data.X
    x = np.asarray(values.toarray() if hasattr(values, "toarray") else values, dtype=np.float64)
    spread = x.std(0)
    return (x - x.mean(0)) / np.where(spread > 0, spread, 1.0), data.obs["group"].cat.codes.to_numpy()  # fmt: skip


def _lasso(data: AnnData, seed: int | None) -> pd.DataFrame:
    from sklearn.linear_model import LogisticRegression

    x, code = _dense(data)
    model = LogisticRegression(l1_ratio=1.0, C=0.02, solver="saga", max_iter=300, tol=1e-3, random_state=seed)  # fmt: skip
    groups = list(data.obs["group"].cat.categories)
    weights = model.fit(x, code).coef_
    weights = np.concatenate([weights, weights]) if len(groups) == 2 else weights
    return pd.DataFrame(np.abs(weights).T, data.var_names, groups)


def _discriminant(data: AnnData, seed: int | None) -> pd.DataFrame:
    from lucidvi.algorithms._conditional_means import conditional_means

    x, code = _dense(data)
    groups = list(data.obs["group"].cat.categories)
    mean = np.stack([x[code == g].mean(0) for g in range(len(groups))])
    found = conditional_means(x - mean[code], mean)
    best = []
    for g in range(len(groups)):
        away = np.abs(np.delete(found, g, 0) - found[g])
        best.append((away / np.maximum(away.max(1, keepdims=True), 1e-12)).max(0))
    return pd.DataFrame(np.stack(best, 1), data.var_names, groups)


def _cosg(data: AnnData, seed: int | None) -> pd.DataFrame:
    try:
        import cosg
    except ImportError as error:
        raise ImportError("Method 'cosg' needs the package cosg: pip install cosg.") from error
    copy = data.copy()
    cosg.cosg(copy, key_added="cosg", groupby="group", n_genes_user=data.n_vars, use_raw=False)
    result = copy.uns["cosg"]
    columns = {g: pd.Series(result["scores"][g], result["names"][g]) for g in result["names"].dtype.names}  # fmt: skip
    return pd.DataFrame(columns).reindex(data.var_names).fillna(-np.inf)


def _structboost(data: AnnData, seed: int | None) -> pd.DataFrame:
    try:
        from structboost import allboost
    except ImportError as error:
        raise ImportError("Method 'structboost' needs the package structboost: pip install structboost.") from error  # fmt: skip
    x, code = _dense(data)
    groups = list(data.obs["group"].cat.categories)
    target = (code[:, None] == np.arange(len(groups))).astype(float)
    target = (target - target.mean(0)) / target.std(0)
    weights = np.asarray(allboost(x, target, stepno=_BOOSTING_STEPS))
    return pd.DataFrame(np.abs(weights).T, data.var_names, groups)


_OTHERS: dict[str, Callable[[AnnData, int | None], pd.DataFrame]] = {
    "lasso": _lasso, "discriminant": _discriminant, "cosg": _cosg, "structboost": _structboost,
}  # fmt: skip
