"""What the plots of gene panels read."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
from anndata import AnnData

from lucidvi._validation import check_names, near


def read_panel(
    adata: AnnData, key: str, groups: Sequence[str] | str | None
) -> tuple[dict[str, Any], list[str]]:
    """A result of :func:`lucidvi.explain.gene_panel`, and the wanted groups: all by default."""
    if key not in adata.uns or "signs" not in adata.uns[key]:
        raise KeyError(
            f"No gene panels under uns[{key!r}]. {near(key, adata.uns)} Call lucidvi.explain.gene_panel first."
        )
    result = adata.uns[key]
    known = pd.Index(result["names"].dtype.names)
    if groups is None:
        return result, list(known)
    wanted = [groups] if isinstance(groups, str) else list(groups)
    check_names(wanted, known, "Group")
    return result, wanted
