"""Effects of sets by donor."""

import pandas as pd
from anndata import AnnData
from mudata import MuData

from lucidvi._arguments import checked
from lucidvi._keys import Key
from lucidvi.get._stored import SUBSET_PERTURBATION, Names, chosen, find, tidy


@checked
def subset_donors(
    data: AnnData | MuData,
    key: str = Key.SUBSET_PERTURBATION,
    *,
    target: Names = None,
    group: Names = None,
    modality: str | None = None,
) -> pd.DataFrame:
    """Return the effects of the sets of a subset perturbation in every donor.

    Parameters
    ----------
    data
        AnnData or MuData with a result of :func:`lucidvi.explain.subset_perturbation` with
        ``donor_key``.
    key
        Name of the result.
    target, group
        One or several targets and groups; all by default.
    modality
        Modality of a MuData that holds the result; by default the one that holds ``key``.

    Returns
    -------
    One row per target (column ``gene``), group and ``donor``: ``n_cells`` held-out cells, their
    mean prediction ``before`` and ``after``, and the relative ``change`` (or the absolute change,
    for outputs that can be negative). With ``contrast``, the table also has the same columns for
    the other cells, ending in ``_against``, and the ``difference`` of both changes. Values are NaN
    if a donor has no cells.

    Raises
    ------
    KeyError
        If there is no such result under ``key``.
    TypeError
        If ``data`` is neither AnnData nor MuData.
    ValueError
        If the result was made without donors, a target or group is unknown, or several modalities
        hold ``key``.

    Examples
    --------
    >>> import lucidvi as lv
    >>> mdata = lv.datasets.redundant_enhancers(300, 8, 800, n_batches=3)
    >>> lv.model.GRIDS.setup_mudata(mdata, labels_key="cell_type")
    >>> model = lv.model.GRIDS(mdata)
    >>> model.train(max_epochs=2, enable_progress_bar=False)
    >>> lv.explain.subset_perturbation(
    ...     model, "gene_0001", n_features=3, donor_key="batch", progress=False
    ... )
    >>> lv.get.subset_donors(mdata)["donor"].tolist()
    ['batch_0', 'batch_1', 'batch_2']
    """
    stored = find(data, key, SUBSET_PERTURBATION, modality)
    if "donors" not in stored.value:
        raise ValueError(f"uns[{key!r}] says nothing of donors. Call lucidvi.explain.subset_perturbation with donor_key, the column of obs with donors.")  # fmt: skip
    return chosen(tidy(stored.value["donors"]), gene=target, group=group)
