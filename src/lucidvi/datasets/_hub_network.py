"""Expression whose co-expression network is known: hubs, their spokes and isolated genes."""

import numpy as np
import pandas as pd
from anndata import AnnData

from lucidvi._arguments import checked
from lucidvi._keys import Key


@checked
def hub_network(
    n_cells: int = 5000,
    n_communities: int = 5,
    n_per_community: int = 50,
    n_isolated: int = 50,
    correlation: float = 0.6,
    seed: int | None = 0,
) -> AnnData:
    r"""Simulate expression from a network of hubs and spokes, as in :cite:p:`Choi2023`.

    Each community has one hub :math:`h`, a standard normal gene, and spokes

    .. math:: s_j = \rho h + \sqrt{1 - \rho^2}\, e_j

    with independent standard normal :math:`e_j`. A spoke therefore has correlation :math:`\rho`
    with its hub and :math:`\rho^2` with the other spokes of the community. The spokes correlate
    only through the hub (their partial correlation given the hub is 0). A spoke correlates with no
    other gene. Isolated genes are independent of all other genes.

    Parameters
    ----------
    n_cells
        Number of cells.
    n_communities
        Number of communities.
    n_per_community
        Number of genes of a community, including its hub; at least 2.
    n_isolated
        Number of isolated genes; may be 0.
    correlation
        Correlation :math:`\rho` of a spoke with its hub, between -1 and 1, both excluded.
    seed
        Seed of all random draws; ``None`` uses a random seed.

    Returns
    -------
    AnnData of ``n_cells`` x ``n_communities * n_per_community + n_isolated`` with float32 values
    (mean 0, variance 1: not counts) in ``.X``, genes ``"hub_0"``, ``"gene_0_1"``, ...,
    ``"isolated_0"``, ..., and

    * ``.var["community"]``: categories ``"community_0"``, ... and ``"isolated"``,
    * ``.var["hub"]``: boolean,
    * ``.uns["truth"]``: dict of the arguments without the seed.

    Raises
    ------
    ValueError
        If a number is out of range.

    Examples
    --------
    >>> import lucidvi as lv
    >>> adata = lv.datasets.hub_network(100, n_communities=2, n_per_community=3, n_isolated=1)
    >>> list(adata.var_names)
    ['hub_0', 'gene_0_1', 'gene_0_2', 'hub_1', 'gene_1_1', 'gene_1_2', 'isolated_0']
    >>> adata.var_names[adata.var["hub"]].tolist()
    ['hub_0', 'hub_1']
    """
    _check(n_cells, n_communities, n_per_community, n_isolated, correlation)
    rng = np.random.default_rng(seed)
    # Noise of all genes first; in communities, a gene's first place is its hub, which has no other.
    x = rng.standard_normal((n_cells, n_communities, n_per_community), dtype=np.float32)
    x[:, :, 1:] *= np.sqrt(1 - correlation**2)
    x[:, :, 1:] += correlation * x[:, :, :1]
    isolated = rng.standard_normal((n_cells, n_isolated), dtype=np.float32)

    communities = [f"community_{c}" for c in range(n_communities)]
    community = [*np.repeat(communities, n_per_community), *["isolated"] * n_isolated]
    categories = [*communities, "isolated"] if n_isolated else communities
    names = [
        f"gene_{c}_{g}" if g else f"hub_{c}"
        for c in range(n_communities)
        for g in range(n_per_community)
    ]
    names += [f"isolated_{g}" for g in range(n_isolated)]
    var = pd.DataFrame(
        {
            "community": pd.Categorical(community, categories=categories),
            "hub": [name.startswith("hub_") for name in names],
        },
        index=names,
    )
    obs = pd.DataFrame(index=[f"cell_{i + 1:05d}" for i in range(n_cells)])
    truth = {
        "n_cells": int(n_cells),
        "n_communities": int(n_communities),
        "n_per_community": int(n_per_community),
        "n_isolated": int(n_isolated),
        "correlation": float(correlation),
    }
    x = np.concatenate([x.reshape(n_cells, -1), isolated], axis=1)
    return AnnData(x, obs=obs, var=var, uns={Key.TRUTH: truth})


def _check(n_cells, n_communities, n_per_community, n_isolated, correlation) -> None:
    least = {
        "n_cells": (n_cells, 1),
        "n_communities": (n_communities, 1),
        "n_per_community": (n_per_community, 2),
        "n_isolated": (n_isolated, 0),
    }
    for name, (value, minimum) in least.items():
        if not isinstance(value, int | np.integer) or value < minimum:
            raise ValueError(
                f"`{name}` must be a whole number of at least {minimum}, got {value!r}."
            )
    if not -1 < correlation < 1:
        raise ValueError(
            f"`correlation` must lie between -1 and 1, both excluded, got {correlation}."
        )
