"""Overlap between the sets of different genes."""

from itertools import combinations

import pandas as pd

from lucidvi._arguments import checked
from lucidvi._validation import require_columns
from lucidvi.metrics._tables import PAIR


@checked
def set_overlap(features: pd.DataFrame) -> pd.DataFrame:
    r"""Compute the overlap of the sets of different genes in one group.

    An overlap near 1 means that the sets are specific to the group and not to the genes. This is
    expected for a surrogate that reads the peaks only through a small latent space.

    Parameters
    ----------
    features
        Long table of sets with columns ``gene``, ``group`` and ``feature``, as returned by
        :func:`lucidvi.get.subset_features`.

    Returns
    -------
    One row per unordered pair of genes explained in the same group: ``group``, ``gene_a``,
    ``gene_b`` and ``overlap`` :math:`= |A \cap B| / \min(|A|, |B|)`, between 0 and 1.

    Raises
    ------
    KeyError
        If a column is missing.

    Examples
    --------
    >>> import pandas as pd
    >>> from lucidvi.metrics import set_overlap
    >>> features = pd.DataFrame(
    ...     {"gene": ["Mbp", "Mbp", "Mog", "Mog"], "group": "Oligo", "feature": list("abbc")}
    ... )
    >>> set_overlap(features).values.tolist()
    [['Oligo', 'Mbp', 'Mog', 0.5]]
    """
    require_columns(features, [*PAIR, "feature"], "features")
    rows = []
    for group, table in features.groupby("group", sort=False, observed=True):
        by_gene = table.groupby("gene", sort=False, observed=True)["feature"]
        sets = {gene: set(names) for gene, names in by_gene}
        for a, b in combinations(sets, 2):
            shared = len(sets[a] & sets[b]) / min(len(sets[a]), len(sets[b]))
            rows.append((group, a, b, shared))
    return pd.DataFrame(rows, columns=["group", "gene_a", "gene_b", "overlap"])
