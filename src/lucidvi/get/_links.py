"""Links between peaks and genes, of a set's members or of all peaks near genes."""

import pandas as pd
from anndata import AnnData
from mudata import MuData

from lucidvi._arguments import checked
from lucidvi._keys import Key
from lucidvi.get._stored import LINKS, SUBSET_PERTURBATION, Names, chosen, find, parts, tidy

_COLUMNS = (
    "gene", "group", "peak", "chrom", "start", "end", "tss", "distance", "openness", "expression", "effect", "effect_low",
    "effect_high", "rel_effect", "p_value", "q_value", "cis_weight", "in_set",
)  # fmt: skip


@checked
def links(
    data: AnnData | MuData,
    key: str = Key.LINKS,
    *,
    target: Names = None,
    group: Names = None,
    sets: str | None = None,
    modality: str | None = None,
) -> pd.DataFrame:
    """Return links between peaks and genes.

    Parameters
    ----------
    data
        AnnData or MuData with a result of :func:`lucidvi.explain.links` (for all peaks near genes)
        or of :func:`lucidvi.explain.subset_perturbation` (for the members of sets).
    key
        Name of the result.
    target, group
        One or several genes and groups; all by default.
    sets
        Name of a result of :func:`lucidvi.explain.subset_perturbation` whose members are marked in
        ``in_set``.
    modality
        Modality of a MuData that holds the result; by default the one that holds ``key``.

    Returns
    -------
    One row per gene, group and peak: ``gene``, ``group``, ``peak``, ``chrom``, ``start``, ``end``,
    ``tss`` (transcription start site of the gene), ``distance`` (base pairs from the TSS, negative
    upstream), ``openness`` (share of the cells in which the peak is open), ``expression`` (mean
    prediction, counts per 10,000), ``effect`` (change of this prediction when the peak alone is
    closed, that is, set to 0), ``effect_low`` and ``effect_high`` (its 95 % interval),
    ``rel_effect`` (``effect / expression``), ``p_value``, ``q_value``, ``cis_weight`` (weight of
    the peak for the gene in GRIDS' cis term) and ``in_set`` (whether the peak is a member of a
    set). If ``key`` is a result for sets, the p-values and q-values are those of the whole set.

    Raises
    ------
    KeyError
        If there is no such result under ``key`` or ``sets``.
    TypeError
        If ``data`` is neither AnnData nor MuData.
    ValueError
        If a gene or group is unknown, several modalities hold ``key``, or the features are not
        peaks.

    Examples
    --------
    >>> import lucidvi as lv
    >>> mdata = lv.datasets.redundant_enhancers(n_cells=300, n_genes=8, n_peaks=800)
    >>> lv.model.GRIDS.setup_mudata(mdata, labels_key="cell_type")
    >>> model = lv.model.GRIDS(mdata)
    >>> model.train(max_epochs=2, enable_progress_bar=False)
    >>> lv.explain.subset_perturbation(model, "gene_0001", n_features=3, progress=False)
    >>> lv.get.links(mdata, "subset_perturbation").shape
    (3, 18)
    """
    of_sets = any(SUBSET_PERTURBATION.matches(p.uns.get(key)) for p in parts(data, modality).values() if key in p.uns)  # fmt: skip
    stored = find(data, key, SUBSET_PERTURBATION if of_sets else LINKS, modality)
    if str(stored.value["params"].get("feature_kind", "peaks")) != "peaks":
        raise ValueError(f"{key!r} holds sets of {stored.value['params']['feature_kind']}. Links start from peaks.")  # fmt: skip
    if of_sets:
        table = _of_members(stored.value)
    else:
        table = tidy(stored.value["links"]).assign(in_set=False)
    table = chosen(table.reindex(columns=list(_COLUMNS)), gene=target, group=group)
    if sets is not None:
        found = tidy(find(data, sets, SUBSET_PERTURBATION, modality).value["features"])
        members = pd.MultiIndex.from_frame(found[["gene", "group", "feature"]])
        table["in_set"] = pd.MultiIndex.from_frame(table[["gene", "group", "peak"]]).isin(members)
    return table


def _of_members(result: dict) -> pd.DataFrame:
    """Return members as links."""
    members, sets = tidy(result["features"]), tidy(result["sets"])
    of_set = sets.reindex(columns=["gene", "group", "expression_before", "p_value", "q_value"])
    table = members.merge(of_set, on=["gene", "group"], how="left", validate="many_to_one")
    table = table.rename(columns={
        "feature": "peak", "single_effect": "effect", "single_low": "effect_low", "single_high": "effect_high",
        "expression_before": "expression",
    })  # fmt: skip
    return table.assign(rel_effect=table["effect"] / table["expression"], in_set=True)
