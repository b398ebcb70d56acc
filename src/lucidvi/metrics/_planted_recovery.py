"""Recovery of planted regulators."""

import numpy as np
import pandas as pd

from lucidvi._arguments import checked
from lucidvi._validation import require_columns
from lucidvi.metrics._tables import PAIR, require_names


@checked
def planted_recovery(features: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """Compute precision and recall of each set for the peaks that regulate its gene.

    Parameters
    ----------
    features
        Long table of sets with columns ``gene``, ``group``, ``feature`` and, for the precision
        at the size of the truth, ``rank`` (1 is best), as returned by
        :func:`lucidvi.get.subset_features`.
    truth
        Long table with columns ``gene``, ``logic`` and ``peak``, one row per planted peak and
        one row with an empty ``peak`` for a gene without any, as in ``mdata.uns["truth"]``.

    Returns
    -------
    One row per set: ``gene``, ``group``, ``logic``, ``n_features`` (size of the set),
    ``n_true`` (planted peaks of the gene), ``n_hit`` (planted peaks in the set), ``precision``
    (``n_hit / n_features``), ``recall`` (``n_hit / n_true``) and ``precision_at_truth``
    (precision among the best ``n_true`` peaks of the set). The last three are NaN for genes
    without planted peaks.

    Raises
    ------
    KeyError
        If a column is missing or a gene of ``features`` is not in ``truth``.

    Examples
    --------
    >>> import pandas as pd
    >>> from lucidvi.metrics import planted_recovery
    >>> truth = pd.DataFrame({"gene": "g1", "logic": "redundant", "peak": ["a", "b"]})
    >>> features = pd.DataFrame(
    ...     {"gene": "g1", "group": "T", "rank": [1, 2, 3, 4], "feature": list("axby")}
    ... )
    >>> table = planted_recovery(features, truth)
    >>> table[["precision", "recall", "precision_at_truth"]].values.tolist()
    [[0.5, 1.0, 0.5]]
    """
    require_columns(features, [*PAIR, "feature"], "features")
    require_columns(truth, ["gene", "logic", "peak"], "truth")
    require_names(features["gene"], pd.Index(truth["gene"].unique()), "truth")
    planted = truth[truth["peak"].notna() & (truth["peak"].astype(str) != "")]
    true_peaks = {gene: set(names) for gene, names in planted.groupby("gene")["peak"]}
    logic = truth.drop_duplicates("gene").set_index("gene")["logic"]
    rows = []
    for (gene, group), members in features.groupby(PAIR, sort=False, observed=True):
        if "rank" in members:
            members = members.sort_values("rank")
        true = true_peaks.get(gene, set())
        hit = members["feature"].isin(true).to_numpy()
        rows.append(
            {
                "gene": gene,
                "group": group,
                "logic": logic.loc[gene],
                "n_features": len(hit),
                "n_true": len(true),
                "n_hit": int(hit.sum()),
                "precision": float(hit.mean()) if true else np.nan,
                "recall": float(hit.sum() / len(true)) if true else np.nan,
                "precision_at_truth": float(hit[: len(true)].mean()) if true else np.nan,
            }
        )
    return pd.DataFrame(rows)
