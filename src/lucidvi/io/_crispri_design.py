"""What to target in a CRISPRi experiment: the members of sets, and controls that look like them."""

import numpy as np
import pandas as pd

from lucidvi._arguments import checked
from lucidvi._logging import warn
from lucidvi._validation import boolean, check_integer, require_columns
from lucidvi.algorithms._matching import likeness, nearest
from lucidvi.io._checked_links import PLACE, File, checked_links, write_rows
from lucidvi.metrics._tables import PAIR

_COLUMNS = (
    "target", "gene", "group", "kind", "chrom", "start", "end", "control_of", "openness", "distance", "effect", "rel_effect",
)  # fmt: skip


@checked
def crispri_design(
    links: pd.DataFrame, path: File | None = None, *, n_controls: int = 1
) -> pd.DataFrame:
    """Return the regions to target for every set, with matched control regions near the same gene.

    Parameters
    ----------
    links
        All peaks near the genes, with the members marked, such as
        ``lv.get.links(data, sets="subset_perturbation")``: ``gene``, ``group``, ``peak``,
        ``chrom``, ``start``, ``end``, ``distance``, ``openness``, ``effect``, ``rel_effect`` and
        ``in_set``.
    path
        File to which the table is written, separated by tabs. The file is compressed if its name
        ends with ``.gz``.
    n_controls
        Number of controls for each member. Controls are as open and as far from the gene as the
        member. No peak is the control of two members of a set.

    Returns
    -------
    One row per region: ``target`` (the peak), ``gene``, ``group``, ``kind`` (``"member"`` or
    ``"control"``), ``chrom``, ``start``, ``end`` (counted from 0, half-open; without strand,
    because guides are designed on both strands), ``control_of``, ``openness``, ``distance`` and the
    predicted ``effect`` and ``rel_effect`` of closing it.

    Raises
    ------
    KeyError
        If a column is missing.
    ValueError
        If no row is a member.
    FileNotFoundError
        If the folder of ``path`` does not exist.

    Examples
    --------
    >>> import pandas as pd
    >>> import lucidvi as lv
    >>> place = {"gene": "G", "group": "T", "peak": ["a", "b", "c"], "chrom": "chr1", "start": [0, 1000, 2000], "end": [500, 1500, 2500]}
    >>> known = {"openness": [0.1, 0.1, 0.5], "distance": 0, "effect": -1.0, "rel_effect": -0.1, "in_set": [True, False, False]}
    >>> lv.io.crispri_design(pd.DataFrame(place | known))[["target", "kind"]].values.tolist()
    [['a', 'member'], ['b', 'control']]
    """
    check_integer(n_controls, 0, "n_controls")
    require_columns(links, [*PAIR, "peak", "distance", "openness", "rel_effect", "in_set"], "links")
    table = checked_links(links, ["openness"])
    in_set = boolean(table["in_set"], "column 'in_set' of links")
    if not in_set.any():
        raise ValueError("No row of links is a member of a set: in_set is False everywhere. Name the sets: lv.get.links(data, sets='subset_perturbation').")  # fmt: skip
    rows, lacking = [], 0
    for _, part in table.groupby(PAIR, sort=False, observed=True):
        at = part.index.to_numpy()
        own, others = np.flatnonzero(in_set[at]), np.flatnonzero(~in_set[at])
        if not len(own):
            continue
        place = likeness(part["openness"].to_numpy(), part["distance"].to_numpy())
        ranked = nearest(place, own, others, len(others)).tolist() if len(others) else [[]] * len(own)  # fmt: skip
        taken: dict[int, int] = {}
        for _ in range(n_controls):  # every member gets one before any gets two
            for member, choice in zip(own.tolist(), ranked, strict=True):
                free = [j for j in choice if j not in taken]
                if free:
                    taken[free[0]] = member
        lacking += n_controls * len(own) - len(taken)
        for member in own.tolist():
            rows.append(part.iloc[member].to_dict() | {"kind": "member", "control_of": ""})
            of = part["peak"].iloc[member]
            rows += [part.iloc[j].to_dict() | {"kind": "control", "control_of": of} for j, m in taken.items() if m == member]  # fmt: skip
    if lacking:
        warn("%d controls are missing: there are no more peaks near the genes. Ask for links with a wider window.", lacking)  # fmt: skip
    design = pd.DataFrame(rows).rename(columns={"peak": "target"})[list(_COLUMNS)]
    design = design.astype(dict.fromkeys(PLACE[1:], np.int64))
    if path is not None:
        write_rows(design, path, names=True)
    return design
