"""Agreement between methods of attribution."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd
import scipy.sparse as sp

from lucidvi._arguments import checked
from lucidvi.metrics.faithfulness._batches import Rows
from lucidvi.metrics.faithfulness._top_features import centred_ranks, check_n_top, share, top_mask

METHODS = ("spearman", "jaccard", "sign")
BATCH = 512
"""Cells ranked at a time."""


@checked
def attribution_agreement(
    attributions: Mapping[str, Any],
    *,
    method: Literal["spearman", "jaccard", "sign"] = "spearman",
    n_top: int = 50,
    absolute: bool = False,
) -> pd.DataFrame:
    r"""Compute the agreement of the attributions of several methods.

    If methods disagree, they cannot all be faithful. If they agree, they may still all be wrong.

    Parameters
    ----------
    attributions
        Signed attributions of each method: ``(features,)``, or cells x features (dense or sparse),
        which are compared cell by cell and averaged. All methods must have the same shape.
    method
        ``"spearman"``: rank correlation over all features. ``"jaccard"``:
        :math:`|A \cap B| / |A \cup B|` of the ``n_top`` features with the largest absolute
        attributions. ``"sign"``: among features in the top of both, the share whose signs agree.
    n_top
        Number of top features. Features without attribution never count, so a cell may have fewer.
    absolute
        Rank absolute values, with ``"spearman"``. This measures agreement on the size, without the
        sign.

    Returns
    -------
    Table of methods x methods; NaN if no cell allows a comparison (all attributions are equal, or
    there is no common top feature).

    Raises
    ------
    TypeError
        If ``attributions`` is not a mapping or one of them is not numbers.
    ValueError
        If there is none, shapes or names do not match, there is NaN, or an option is out of range.

    Examples
    --------
    >>> from lucidvi.metrics.faithfulness import attribution_agreement
    >>> attributions = {"gradient": [0.1, -2.0, 3.0], "occlusion": [0.3, 1.0, 4.0]}
    >>> attribution_agreement(attributions, method="jaccard", n_top=2).loc["gradient", "occlusion"]
    np.float64(1.0)
    >>> attribution_agreement(attributions, method="sign", n_top=2).loc["gradient", "occlusion"]
    np.float64(0.5)
    """
    if not isinstance(attributions, Mapping):
        raise TypeError(
            "`attributions` must be a mapping from method to attributions, not "
            f"{type(attributions).__name__}."
        )
    if method not in METHODS:
        raise ValueError(f"method={method!r} is unknown. Allowed: {', '.join(map(repr, METHODS))}.")
    if not attributions:
        raise ValueError("`attributions` holds no method.")
    tables = _tables(attributions)
    first = next(iter(tables.values()))
    if method != "spearman":
        check_n_top(n_top, first.shape[1])
    total = np.zeros((len(tables), len(tables)))
    known = np.zeros_like(total)
    for batch in first.batches(BATCH):
        blocks = [table.read(batch) for table in tables.values()]
        if method == "spearman":
            blocks = [centred_ranks(np.abs(b) if absolute else b) for b in blocks]
        tops = [top_mask(b, n_top) for b in blocks] if method != "spearman" else []
        for i in range(len(tables)):
            for j in range(i + 1):
                if method == "spearman":
                    per_cell = np.einsum("cf,cf->c", blocks[i], blocks[j])
                else:
                    both = tops[i] & tops[j]
                    same = np.sign(blocks[i]) == np.sign(blocks[j])
                    part = both if method == "jaccard" else both & same
                    whole = tops[i] | tops[j] if method == "jaccard" else both
                    per_cell = share(part.sum(axis=1), whole.sum(axis=1))
                total[i, j] += np.nansum(per_cell)
                known[i, j] += (~np.isnan(per_cell)).sum()
    mean = share(total, known)
    mean = np.where(np.tri(len(mean), dtype=bool), mean, mean.T)
    return pd.DataFrame(mean, index=list(tables), columns=list(tables))


def _tables(attributions: Mapping[str, Any]) -> dict[str, Rows]:
    tables: dict[str, Rows] = {}
    labels: dict[int, tuple[str, pd.Index]] = {}
    for name, given in attributions.items():
        where = f"attributions[{name!r}]"
        if isinstance(given, pd.Series | pd.DataFrame):
            # Features are the last axis of either.
            for axis, label in enumerate(reversed(given.axes)):
                other, same = labels.setdefault(axis, (name, label))
                if not label.equals(same):
                    raise ValueError(
                        f"`{where}` and `attributions[{other!r}]` must have the same "
                        f"{('features', 'cells')[axis]} in the same order; reindex one of them."
                    )
        table = given if sp.issparse(given) else np.atleast_2d(np.asarray(given))
        shape = next(iter(tables.values())).shape if tables else None
        tables[name] = Rows(table, where, shape=shape)
    return tables
