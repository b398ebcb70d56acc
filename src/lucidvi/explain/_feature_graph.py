"""Centrality and neighbours of features, stored as a graph."""

from typing import Literal

import numpy as np
from anndata import AnnData
from mudata import MuData
from scanpy.neighbors import Neighbors
from scipy.sparse import csr_matrix

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
    metric: Literal["correlation", "covariance", "euclidean"] = "correlation",
    key_added: str = Key.NEIGHBORS,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Store how central features are in a siVAE, and their neighbour graph :cite:p:`Choi2023`.

    The neighbour graph is stored in scanpy's layout. Scanpy's graph tools find it on the transposed
    object: run ``genes = adata.T``, then ``sc.tl.leiden(genes, neighbors_key="sivae_neighbors",
    flavor="igraph", n_iterations=2)``.

    Parameters
    ----------
    model
        Trained siVAE.
    n_neighbors
        Number of neighbours of each feature.
    metric
        Definition of a neighbour, as in :meth:`lucidvi.model.SIVAE.get_feature_neighbors`. With
        ``"correlation"``, neighbours are features whose decoded values correlate. With
        ``"covariance"``, they are features whose loadings have a large product. With
        ``"euclidean"``, as in the paper, they are features that are close in the feature embedding.
    key_added
        Name of the graph.
    copy
        Return a copy of the data with the result instead of changing the data.

    Returns
    -------
    ``None``, or the copy. The result is written into the object, or into the modality that the
    model reads:

    ``varp[key_added]``, ``varp[f"{key_added}_distances"]``
        Connectivities with UMAP's weights (the first) and distances (the second). Both are CSR
        matrices of shape ``(n_features, n_features)``.
    ``uns[key_added]``
        Parameters, and the names of the two matrices in scanpy's layout.
    ``var["sivae_centrality"]``
        The share of each feature's variance in training cells that the model leaves unexplained,
        with a minus sign. A higher value means that the feature is more central.
    ``var["sivae_centrality_held_out"]``
        The same in held-out cells, if there are any.
    ``var["sivae_explained"]``, ``var["sivae_degree"]``
        ``sivae_explained``: the share of the variation, apart from counting noise, that the model
        explains. ``sivae_degree``: the mean absolute correlation of the decoded values. Use these
        two columns if the model reads counts. See
        :meth:`lucidvi.model.SIVAE.get_feature_centrality`.

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
    carrier = AnnData(np.zeros((len(function.features), 1), dtype=np.float32))
    if n_neighbors >= carrier.n_obs:
        raise ValueError(f"n_neighbors={n_neighbors} is out of range. Allowed: 2 to {carrier.n_obs - 1}.")  # fmt: skip
    graph = Neighbors(carrier)
    known = _Known(*model._nearest_features(n_neighbors, metric))
    graph.compute_neighbors(
        n_neighbors + 1, use_rep="X", transformer=known
    )  # scanpy counts the point itself
    names = {"connectivities_key": key_added, "distances_key": f"{key_added}_distances"}
    graphs = {names["connectivities_key"]: graph.connectivities, names["distances_key"]: graph.distances}  # fmt: skip
    at = placed(np.arange(carrier.n_obs), function.features, place.store, fill=-1)
    params = {"n_neighbors": n_neighbors, "method": "umap", "metric": metric}
    centrality = {Key.CENTRALITY: model.get_feature_centrality(split="train")}
    if len(function.held_out_cells):
        centrality[f"{Key.CENTRALITY}_held_out"] = model.get_feature_centrality(split="held_out")
    for method in ("explained", "degree"):
        centrality[f"sivae_{method}"] = model.get_feature_centrality(method=method)  # type: ignore[arg-type]
    place.write(
        {**names, "params": params},
        varp={name: g.tocsr()[at][:, at] for name, g in graphs.items()},
        var={name: values.to_numpy()[at] for name, values in centrality.items()},
    )  # fmt: skip
    return place.returned


class _Known:
    """Neighbours that are known already, in the form in which scanpy asks for what finds them."""

    def __init__(self, nearest: np.ndarray, distance: np.ndarray):
        self._nearest, self._distance = nearest, distance

    def get_params(self) -> dict[str, int]:
        """Return how many neighbours there are, with the point itself."""
        return {"n_neighbors": self._nearest.shape[1] + 1}

    def fit_transform(self, x: np.ndarray) -> csr_matrix:
        """Return distances to the neighbours; that to the point itself is not among them."""
        n, k = self._nearest.shape
        values = np.maximum(self._distance, 1e-9)  # an explicit 0 would be lost
        return csr_matrix((values.ravel(), self._nearest.ravel(), np.arange(0, n * k + 1, k)), shape=(n, n))  # fmt: skip
