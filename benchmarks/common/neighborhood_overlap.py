"""How many neighbours of a gene two methods agree on."""

import pandas as pd


def neighborhood_overlap(first: pd.DataFrame, second: pd.DataFrame) -> pd.Series:
    r"""Share of the neighbours of each gene that two methods have in common.

    Compares neighbourhoods as in :cite:p:`Choi2023`. Two random sets of :math:`k` of :math:`G`
    genes share :math:`k / (G - 1)` on average.

    Parameters
    ----------
    first, second
        Names of the neighbours: index gene, one column per rank. The two may differ in their
        number of neighbours.

    Returns
    -------
    A Series ``overlap`` over the genes that are in both tables, in the order of ``first``:
    :math:`|A \cap B| / \min(|A|, |B|)`, between 0 and 1.

    Raises
    ------
    TypeError
        If a table is not a DataFrame.
    ValueError
        If a gene occurs twice, a neighbour is missing or occurs twice in a row, or the tables
        share no gene.

    Examples
    --------
    >>> import pandas as pd
    >>> from common.neighborhood_overlap import neighborhood_overlap
    >>> first = pd.DataFrame([["Mog", "Plp1"], ["Mbp", "Plp1"]], index=["Mbp", "Mog"])
    >>> second = pd.DataFrame([["Plp1", "Cnp"], ["Plp1", "Mbp"]], index=["Mbp", "Mog"])
    >>> neighborhood_overlap(first, second).to_dict()
    {'Mbp': 0.5, 'Mog': 1.0}
    """
    sets = {name: _sets(table, name) for name, table in (("first", first), ("second", second))}
    genes = first.index.intersection(second.index, sort=False)
    if not len(genes):
        raise ValueError(
            "`first` and `second` share no gene; their indices must hold names of the same kind, "
            f"got {first.index[:3].tolist()} and {second.index[:3].tolist()}."
        )
    size = min(first.shape[1], second.shape[1])
    shared = [len(sets["first"][gene] & sets["second"][gene]) / size for gene in genes]
    return pd.Series(shared, index=genes, name="overlap", dtype=float)


def _sets(table: pd.DataFrame, name: str) -> dict:
    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"`{name}` must be a pandas DataFrame, not {type(table).__name__}.")
    if table.empty or table.isna().to_numpy().any() or not table.index.is_unique:
        raise ValueError(
            f"`{name}` must have one row per gene and a neighbour in every column; it has shape "
            f"{table.shape}, {int(table.isna().to_numpy().sum())} missing neighbours and "
            f"{int(table.index.duplicated().sum())} repeated genes."
        )
    sets = {gene: set(row) for gene, row in zip(table.index, table.to_numpy(), strict=True)}
    repeated = [gene for gene, members in sets.items() if len(members) < table.shape[1]]
    if repeated:
        raise ValueError(f"`{name}` names a neighbour of {repeated[0]!r} twice.")
    return sets
