"""How well the top genes of a group separate its cells from the others."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from lucidvi._arguments import checked
from lucidvi.metrics._matrices import dense_matrix
from lucidvi.metrics._rankings import (
    Rankings,
    cell_groups,
    check_sizes,
    require_groups,
    top_columns,
)

C_VALUES = 5.0 ** np.arange(-5, 6)
"""Penalties tried in the inner cross-validation, those of the paper."""


@checked
def panel_auroc(
    x: ArrayLike | pd.DataFrame,
    groups: ArrayLike,
    rankings: Rankings,
    *,
    names: Iterable[str],
    sizes: Iterable[int] | int,
    n_folds: int = 3,
    seed: int | None = 0,
    n_jobs: int | None = None,
) -> pd.DataFrame:
    """Compute the AUROC of a support vector machine on the top genes, group against rest.

    As in :cite:p:`Lu2021`, the classifier has a radial kernel, genes are standardised on the
    training cells, and the score is computed on held-out cells of a stratified cross-validation.
    The penalty C, one of 5^-5, 5^-4, ..., 5^5, is chosen by another cross-validation within the
    training cells. Folds depend only on the cells, the group and ``seed``, so that rankings and
    sizes are compared on the same cells. If the genes were ranked on the same cells, the score is
    too optimistic for every ranking. For an unbiased score, rank the genes on other cells.

    Parameters
    ----------
    x
        Expression, cells x genes; dense or sparse.
    groups
        Group of each cell, shape ``(cells,)``.
    rankings
        Genes of each group, best first: a mapping from group to names, a DataFrame with one column
        of names per group, or the ``names`` of :func:`scanpy.tl.rank_genes_groups`. A group without
        a ranking is not scored, but its cells belong to the rest for other groups. You can leave
        out the rankings of rare groups.
    names
        Names of the columns of ``x``.
    sizes
        Numbers of top genes to use.
    n_folds
        Number of folds of both cross-validations.
    seed
        Seed of the folds.
    n_jobs
        Number of processes for the choice of the penalty; ``None`` for one.

    Returns
    -------
    One row per group and size, in the order of ``rankings``, sizes ascending: ``group``, ``size``
    and ``auroc``, the mean over folds, between 0 and 1 (0.5: no better than chance).

    Raises
    ------
    KeyError
        If a ranking is of a group without cells or a top gene is not in ``names``.
    TypeError
        If ``rankings`` is of another kind.
    ValueError
        If shapes do not match, there is NaN, a size is out of range, a ranking is shorter than the
        largest size or repeats a gene, or a group or its rest has too few cells for the folds.

    Examples
    --------
    >>> import lucidvi as lv
    >>> adata = lv.datasets.ace_simulation(60, n_groups=2)
    >>> panel = lv.metrics.panel_auroc(
    ...     adata.X,
    ...     adata.obs["group"],
    ...     {"group_0": adata.var_names},
    ...     names=adata.var_names,
    ...     sizes=[20],
    ... )
    >>> panel.round(2).values.tolist()
    [['group_0', 20, 1.0]]
    """
    x = dense_matrix(x)
    group = cell_groups(groups, len(x))
    steps = check_sizes(sizes)
    columns = top_columns(rankings, names, x.shape[1], steps[-1])
    known = np.unique(group).tolist()
    require_groups(columns, known, "`rankings` has groups that no cell belongs to")
    if not isinstance(n_folds, int | np.integer) or n_folds < 2:
        raise ValueError(f"`n_folds` must be a whole number of at least 2, got {n_folds!r}.")
    targets = {name: group == name for name in columns}
    for name, target in targets.items():
        _check_cells(name, target, n_folds)
    # scikit-learn takes None for numpy's global state, hence a number also without a seed.
    state = int(np.random.default_rng(seed).integers(2**31))
    folds = StratifiedKFold(n_folds, shuffle=True, random_state=state)
    search = GridSearchCV(
        make_pipeline(StandardScaler(), SVC(kernel="rbf")),
        {"svc__C": C_VALUES},
        scoring="roc_auc",
        cv=folds,
        n_jobs=n_jobs,
    )
    rows = []
    for name, target in targets.items():
        for size in steps:
            top = x[:, columns[name][:size]]
            score = cross_val_score(search, top, target, scoring="roc_auc", cv=folds).mean()
            rows.append((name, int(size), float(score)))
    return pd.DataFrame(rows, columns=["group", "size", "auroc"])


def _check_cells(name: str, target: np.ndarray, n_folds: int) -> None:
    # Each inner fold needs a cell of both kinds, and the largest outer fold is taken out before.
    for what, n_cells in (("", target.sum()), ("the rest of ", (~target).sum())):
        if n_cells - -(-n_cells // n_folds) < n_folds:
            raise ValueError(
                f"{n_cells} cells in {what}group {name!r} are too few for {n_folds} folds within "
                f"{n_folds} folds; use fewer folds or leave the group out of `rankings`."
            )
