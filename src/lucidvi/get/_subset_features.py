"""Members of the sets found by a subset perturbation."""

import pandas as pd
from anndata import AnnData
from mudata import MuData

from lucidvi._arguments import checked
from lucidvi._keys import Key
from lucidvi.get._stored import SUBSET_PERTURBATION, Names, chosen, find, tidy


@checked
def subset_features(
    data: AnnData | MuData,
    key: str = Key.SUBSET_PERTURBATION,
    *,
    target: Names = None,
    group: Names = None,
    modality: str | None = None,
) -> pd.DataFrame:
    """Return the members of the sets of a subset perturbation.

    Parameters
    ----------
    data
        AnnData or MuData with a result of :func:`lucidvi.explain.subset_perturbation`.
    key
        Name of the result.
    target, group
        One or several targets and groups; all by default.
    modality
        Modality of a MuData that holds the result; by default the one that holds ``key``.

    Returns
    -------
    One row per target (column ``gene``), group and member, by rank: ``feature``, ``single_effect``,
    ``joint_effect``, ``openness``, and the coordinates ``chrom``, ``start``, ``end`` and
    ``distance`` (base pairs from the transcription start site; NaN where unknown).

    Raises
    ------
    KeyError
        If there is no such result under ``key``.
    TypeError
        If ``data`` is neither AnnData nor MuData.
    ValueError
        If a target or group is unknown, or several modalities hold ``key``.

    Examples
    --------
    >>> import lucidvi as lv
    >>> mdata = lv.datasets.redundant_enhancers(n_cells=300, n_genes=8, n_peaks=800)
    >>> lv.model.GRIDS.setup_mudata(mdata, labels_key="cell_type")
    >>> model = lv.model.GRIDS(mdata)
    >>> model.train(max_epochs=2, enable_progress_bar=False)
    >>> lv.explain.subset_perturbation(
    ...     model, "gene_0001", n_features=3, progress=False
    ... )
    >>> table = lv.get.subset_features(mdata, target="gene_0001")
    >>> table["rank"].tolist()
    [1, 2, 3]
    """
    stored = find(data, key, SUBSET_PERTURBATION, modality)
    return chosen(tidy(stored.value["features"]), gene=target, group=group)
