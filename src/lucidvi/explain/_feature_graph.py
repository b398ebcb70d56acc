"""Centrality and neighbours of features, stored as a graph."""

import numpy as np
from anndata import AnnData
from mudata import MuData
from scanpy.neighbors import Neighbors

from lucidvi._arguments import checked
from lucidvi._keys import Key
from lucidvi._validation import check_integer
from lucidvi.adapters import adapter
from lucidvi.explain._results import Place, placed
from lucidvi.model import SIVAE


@checked
def feature_graph(
    model: SIVAE,
    *,
    n_neighbors: int = 20,
    key_added: str = Key.NEIGHBORS,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Store hubs and neighbourhoods of features as siVAE sees them :cite:p:`Choi2023`.

    The neighbour graph lies where scanpy's graph tools look for it on the transposed object: ``genes = adata.T``, then
    ``sc.tl.leiden(genes, neighbors_key="sivae_neighbors", flavor="igraph", n_iterations=2)``.

    Parameters
    ----------
    model
        Trained siVAE.
    n_neighbors
        Neighbours of each feature by Euclidean distance in the feature embedding.
    key_added
        Name of the graph.
    copy
        Return a copy of the data with the result instead of changing the data.

    Returns
    -------
    ``None``, or the copy. Written into the object, or into the modality that the model reads:

    ``varp[key_added]``, ``varp[f"{key_added}_distances"]``
        Connectivities as UMAP weighs them, and distances: CSR, ``(n_features, n_features)``.
    ``uns[key_added]``
        Parameters, and the names of the two in scanpy's layout.
    ``var["sivae_centrality"]``
        Minus the share of each feature's variance over training cells that is left unexplained; higher is more
        central.
    ``var["sivae_centrality_held_out"]``
        The same over cells that training has not seen, where there are any.

    Raises
    ------
    TypeError
        If the model is not a siVAE.
    RuntimeError
        If the model is not trained.
    ValueError
        If ``n_neighbors`` is out of range.

    Examples
    --------
    >>> import lucidvi as lv
    >>> adata = lv.datasets.hub_network(n_cells=300)
    >>> lv.model.SIVAE.setup_anndata(adata)
    >>> model = lv.model.SIVAE(adata, n_latent=2, hidden=(64, 32))
    >>> model.train(max_epochs=4, enable_progress_bar=False)
    >>> lv.explain.feature_graph(model)
    >>> adata.varp["sivae_neighbors"].shape
    (300, 300)
    """
    function = adapter(model)
    if not isinstance(model, SIVAE):
        raise TypeError(f"Only lucidvi.model.SIVAE embeds its features; this is a {type(model).__name__}.")  # fmt: skip
    check_integer(n_neighbors, 2, "n_neighbors")
    place = Place(function, key_added, "feature_graph", copy=copy)
    embedding = model.get_feature_embedding()
    if n_neighbors >= len(embedding):
        raise ValueError(
            f"n_neighbors={n_neighbors} is out of range. Allowed: 2 to {len(embedding) - 1}."
        )
    carrier = AnnData(np.zeros((len(embedding), 1), dtype=np.float32))
    carrier.obsm["X"] = embedding.to_numpy()
    graph = Neighbors(carrier)
    graph.compute_neighbors(n_neighbors + 1, use_rep="X")  # scanpy counts the point itself
    names = {"connectivities_key": key_added, "distances_key": f"{key_added}_distances"}
    graphs = {names["connectivities_key"]: graph.connectivities, names["distances_key"]: graph.distances}  # fmt: skip
    at = placed(np.arange(len(embedding)), embedding.index, place.store, fill=-1)
    params = {"n_neighbors": n_neighbors, "method": "umap", "metric": "euclidean"}
    centrality = {Key.CENTRALITY: model.get_feature_centrality(split="train")}
    if len(function.held_out_cells):
        centrality[f"{Key.CENTRALITY}_held_out"] = model.get_feature_centrality(split="held_out")
    place.write(
        {**names, "params": params},
        varp={name: g.tocsr()[at][:, at] for name, g in graphs.items()},
        var={name: values.to_numpy()[at] for name, values in centrality.items()},
    )  # fmt: skip
    return place.returned
