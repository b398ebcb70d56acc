import logging
import sys
from subprocess import run

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import scvi
from anndata import AnnData

import lucidvi as lv
from lucidvi.metrics import _gene_swaps, fssf

QUIET = {"progress": False, "n_null": 0}
NAMES = [f"g{j}" for j in range(12)]
SET = NAMES[:4]


class Linear:
    """A model whose latent is a linear map of the counts."""

    def __init__(self, adata, weights, layer=None):
        self.adata, self.weights, self.layer = adata, weights, layer
        self.calls = []

    def get_latent_representation(self, adata):
        self.calls.append(adata.n_obs)
        x = adata.X if self.layer is None else adata.layers[self.layer]
        return np.asarray(x @ self.weights)


def weights(rows):
    """Two latent dimensions that read the given genes only."""
    w = np.zeros((len(NAMES), 2))
    w[rows, 0] = 1
    w[rows, 1] = np.linspace(-0.2, 0.2, len(NAMES))[rows]
    return w


@pytest.fixture
def adata():
    """Two types; in each, subclusters differ in all genes."""
    rng = np.random.default_rng(0)
    kind = np.repeat(["B", "T"], [90, 120])
    sub = np.r_[np.repeat([0, 1, 2], 30), np.repeat([0, 1], [50, 70])]
    x = rng.poisson(3 + 20 * sub[:, None], (210, 12)).astype(np.float32)
    adata = AnnData(x, var=pd.DataFrame(index=NAMES))
    adata.obs["kind"] = pd.Categorical(kind, categories=["T", "B", "NK"])
    adata.obs["sub"] = pd.Categorical.from_codes(sub, ["low", "mid", "high"])
    return adata


@pytest.mark.parametrize("subclusters", ["sub", None])
@pytest.mark.parametrize("score", [1, -1])
def test_models_that_read_the_set_only_or_the_others_only(adata, score, subclusters):
    model = Linear(adata, weights(range(4) if score == 1 else range(4, 12)))
    options = {"n_null": 5, "resolution": 0.01, "progress": False}
    table = fssf(model, "kind", SET, subclusters=subclusters, **options)
    assert list(table) == [
        "group", "a", "b", "n_cells", "fssf", "random_mean", "random_sd", "n_null",
    ]  # fmt: skip
    assert set(table["group"]) == {"T", "B"}
    np.testing.assert_array_equal(table["fssf"], score)
    assert table["n_null"].eq(5).all()
    if subclusters:
        assert table["group"].tolist() == ["T", "B", "B", "B"]
        assert table["n_cells"].tolist() == [120, 60, 60, 60]
        assert table["a"].tolist() == ["low", "low", "low", "mid"]
        assert table["b"].tolist() == ["mid", "mid", "high", "high"]
    if score == 1:  # the others change nothing
        np.testing.assert_array_equal(table["random_mean"], -1)
        np.testing.assert_array_equal(table["random_sd"], 0)


def test_by_hand():
    """Two cells against two; only the donors of the first are a matter of chance, and they agree."""
    x = np.array([[0, 0, 0], [0, 1, 1], [6, 3, 3], [6, 4, 4], [0, 13, 0]], float)
    adata = AnnData(x, var=pd.DataFrame(index=["a", "b", "c"]))
    adata.obs["kind"] = "T"
    adata.obs["sub"] = ["1", "1", "2", "2", "3"]
    model = Linear(adata, np.ones((3, 1)))
    # Totals: 0, 2 | 12, 14 | 13. With the other cluster's `a`: 6, 8 | 6, 8. Nearest: 2, 12 | 2, 12,
    # except that 6 is nearer to 2 and 8 nearer to 12: one of each cluster lands on either side.
    table = fssf(model, "kind", ["a"], subclusters="sub", n_neighbors=1, min_cells=2, **QUIET)
    assert table["fssf"].tolist() == [0.0]
    assert table["n_cells"].tolist() == [4]
    # A set that moves the cells of the second cluster to 0 and 2, but those of the first past both.
    adata.X[:, 0] = [0, 0, 12, 12, 0]
    adata.X[:, 1] = [0, 1, 0.5, 1, 24]
    adata.X[:, 2] = [0, 1, 0.5, 1, 0]
    # Totals 0, 2 | 13, 14 | 24; swapped 12, 14 | 1, 2: all follow the set.
    options = {"subclusters": "sub", "n_neighbors": 1, "min_cells": 2, "among": "group"}
    assert fssf(model, "kind", ["a"], **options, **QUIET)["fssf"].tolist() == [1.0]
    # A third cluster at 12 and 14 catches two of four, which count in the total only.
    adata.X[4] = [11.9, 0, 0]
    assert fssf(model, "kind", ["a"], **options, **QUIET)["fssf"].tolist() == [0.75]


def test_by_brute_force(adata):
    """One donor per subcluster, so that nothing is left to chance; each cell swapped by hand."""
    x = adata.X.copy()
    sub = adata.obs["sub"].astype(str).to_numpy()
    for kind in ("B", "T"):
        for label in ("low", "mid", "high"):
            cells = np.flatnonzero((adata.obs["kind"] == kind) & (sub == label))
            if len(cells):
                x[np.ix_(cells, range(4))] = x[cells[0], :4]
    adata.X = x
    rng = np.random.default_rng(1)
    w = rng.standard_normal((12, 3))
    model = Linear(adata, w)
    table = fssf(model, "kind", SET, subclusters="sub", n_neighbors=5, among="group", **QUIET)
    z = x @ w
    seen = set()
    for row in table.itertuples():
        of_group = np.flatnonzero(adata.obs["kind"] == row.group)
        n_set = n_other = n_total = 0
        for own, source in ((row.a, row.b), (row.b, row.a)):
            donor = of_group[sub[of_group] == source][0]
            for cell in of_group[sub[of_group] == own]:
                y = np.r_[x[donor, :4], x[cell, 4:]] @ w
                near = of_group[((z[of_group] - y) ** 2).sum(axis=1).argsort()[:5]]
                names, votes = np.unique(sub[near], return_counts=True)
                tied = names[votes == votes.max()]
                # scikit-learn takes the first of tied labels
                landed = next(k for k in ("low", "mid", "high") if k in tied)
                n_set += landed == source
                n_other += landed == own
                n_total += 1
        assert n_total == row.n_cells
        assert row.fssf == pytest.approx((n_set - n_other) / n_total)
        seen.add(row.fssf)
    assert len(seen) > 1 and not seen <= {-1.0, 0.0, 1.0}


def test_swapped_rows():
    rng = np.random.default_rng(0)
    x = rng.poisson(1, (6, 5))
    genes = np.array([True, False, True, False, False])
    receivers, donors = np.array([0, 0, 5, 3]), np.array([1, 2, 1, 4])
    expected = x[receivers]
    expected[:, genes] = x[donors][:, genes]
    np.testing.assert_array_equal(_gene_swaps.swapped(x, genes, receivers, donors), expected)
    for kind in (sp.csr_matrix, sp.csr_array):
        before = kind(x)
        out = _gene_swaps.swapped(before, genes, receivers, donors)
        assert sp.issparse(out) and out.dtype == x.dtype
        np.testing.assert_array_equal(out.toarray(), expected)
        np.testing.assert_array_equal(before.toarray(), x)


@pytest.mark.parametrize("kind", [sp.csr_matrix, sp.csc_matrix, sp.csr_array])
def test_sparse_layers_and_small_calls_change_nothing(adata, kind, monkeypatch):
    w = np.random.default_rng(1).standard_normal((12, 3))
    options = {"subclusters": "sub", "n_null": 7, "progress": False, "seed": 3}
    model = Linear(adata, w)
    expected = fssf(model, "kind", SET, **options)
    assert model.calls == [210, 8 * 120, 8 * 180]
    other = AnnData(np.zeros(adata.shape), adata.obs, adata.var)
    other.layers["counts"] = kind(adata.X)
    model = Linear(other, w, layer="counts")
    pd.testing.assert_frame_equal(fssf(model, "kind", SET, layer="counts", **options), expected)
    model.registry = {"setup_args": {"layer": "counts"}}
    monkeypatch.setattr(_gene_swaps, "ROWS_PER_CALL", 500)
    monkeypatch.setattr("lucidvi.metrics._fssf.ROWS_PER_CALL", 100)
    model.calls.clear()
    pd.testing.assert_frame_equal(fssf(model, "kind", SET, **options), expected)
    # 120 cells of 8 sets in two calls; each pair of 60 cells on its own in one
    assert model.calls == [210, 480, 480, 480, 480, 480]


def test_seed(adata):
    w = np.random.default_rng(1).standard_normal((12, 3))
    adata.X = np.random.default_rng(2).poisson(3 + adata.X / 5).astype(np.float32)
    model = Linear(adata, w)

    def score(seed, n_null=3):
        options = {"n_neighbors": 5, "min_cells": 10, "progress": False}
        return fssf(model, "kind", SET, seed=seed, n_null=n_null, **options)

    one = score(1)
    pd.testing.assert_frame_equal(one, score(1))
    assert not one["random_mean"].equals(score(2)["random_mean"])
    pd.testing.assert_series_equal(one["fssf"], score(1, n_null=0)["fssf"])
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    without_any = score(None, n_null=0)
    np.testing.assert_array_equal(state, np.random.get_state()[1])  # noqa: NPY002
    assert without_any[["random_mean", "random_sd"]].isna().all(axis=None)
    assert np.isnan(score(1, n_null=1)["random_sd"]).all()


def test_cells_and_subclusters_that_are_left_out(adata):
    model = Linear(adata, weights(range(4)))
    adata.obs["sub"] = adata.obs["sub"].astype(object)
    adata.obs.iloc[:20, 1] = "rare"
    adata.obs.iloc[20:25, 1] = None
    adata.obs.iloc[30:35, 0] = None
    table = fssf(model, "kind", SET, subclusters="sub", min_cells=22, **QUIET)
    assert list(zip(table["a"], table["b"], strict=True)) == [("low", "mid"), ("high", "mid")]
    assert table["n_cells"].tolist() == [120, 55]
    table = fssf(model, "kind", SET, subclusters="sub", min_cells=31, **QUIET)
    assert table["group"].tolist() == ["T"]
    table = fssf(model, "kind", SET, adata=adata[:90].copy(), subclusters="sub", **QUIET)
    assert set(table["group"]) == {"B"}


class Messages(logging.Handler):
    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        self.records.append(record)


def test_scvi():
    import scvi

    scvi.settings.seed = 0
    rng = np.random.default_rng(0)
    sub = rng.integers(2, size=300)
    x = rng.poisson(1 + 5 * sub[:, None] * (np.arange(30) < 15))
    adata = AnnData(sp.csr_matrix((300, 30), dtype=np.float32))
    adata.layers["counts"] = sp.csr_matrix(x.astype(np.float32))
    adata.obs["donor"] = pd.Categorical(rng.choice(["d1", "d2"], 300))
    adata.obs["age"] = rng.uniform(size=300)
    adata.obs["kind"], adata.obs["sub"] = "T", sub.astype(str)
    options = {"batch_key": "donor", "continuous_covariate_keys": ["age"]}
    scvi.model.SCVI.setup_anndata(adata, layer="counts", **options)
    model = scvi.model.SCVI(adata, n_latent=3, n_hidden=32)
    model.train(15, accelerator="cpu", enable_progress_bar=False)
    options = {"subclusters": "sub", "n_null": 3, "progress": False, "batch_size": 100}
    messages = Messages()
    logger = logging.getLogger("scvi")
    logger.addHandler(messages)
    try:
        table = fssf(model, "kind", adata.var_names[:15], **options)
        assert not messages.records
        assert logger.isEnabledFor(logging.INFO)
    finally:
        logger.removeHandler(messages)
    assert table["fssf"].item() > 0.9
    assert table["random_mean"].item() < -0.9
    copy = fssf(model, "kind", adata.var_names[:15], adata=adata.copy(), **options)
    pd.testing.assert_frame_equal(copy, table)
    # the cell keeps its covariates: swapping with itself embeds it as it is
    cells = np.arange(300)
    itself = _gene_swaps.swapped_latents(
        model, adata, "counts", cells, cells[None], np.ones((1, 30), dtype=bool)
    )
    np.testing.assert_allclose(next(itself), model.get_latent_representation(), atol=1e-5)
    mean, variance = model.get_latent_representation(return_dist=True)
    adata.obsm["X_latent_qzm"], adata.obsm["X_latent_qzv"] = mean, variance
    model.minify_adata()
    with pytest.raises(ValueError, match="minified"):
        fssf(model, "kind", adata.var_names[:15])


def test_bad_input(adata):
    model = Linear(adata, weights(range(4)))
    model.adata.layers["counts"] = adata.X
    cases = [
        ({"genes": ["g1", "G22"]}, ValueError, "Gene 'G22' is unknown. Did you mean 'g2'"),
        ({"genes": []}, ValueError, "names 0 of 12 genes"),
        ({"genes": NAMES}, ValueError, "names 12 of 12 genes"),
        ({"genes": NAMES[:7]}, ValueError, "7 genes, but only 5 others"),
        ({"groupby": "kinds"}, KeyError, "Did you mean 'kind'"),
        ({"subclusters": "subs"}, KeyError, "subclusters='subs' is not in adata.obs"),
        ({"layer": "count"}, KeyError, r"not in adata.layers, which has \['counts'\]"),
        ({"n_neighbors": 31}, ValueError, "n_neighbors=31 is more than two subclusters"),
        ({"n_neighbors": 0}, ValueError, "at least 1"),
        ({"among": "all"}, ValueError, "among='all' is unknown"),
        ({"min_cells": 2.5}, TypeError, "min_cells=2.5"),
        ({"n_null": -1}, ValueError, "n_null=-1"),
        ({"adata": "x.h5ad"}, TypeError, "Expected an AnnData object, got str"),
        ({"min_cells": 60, "subclusters": "sub"}, ValueError, r"the largest are \{'T': \[70, 50\]"),
        ({"min_cells": 200}, ValueError, "Lower `min_cells` or raise `resolution`"),
    ]
    for changes, error, message in cases:
        arguments = {"groupby": "kind", "genes": SET, "progress": False} | changes
        with pytest.raises(error, match=message):
            fssf(model, **arguments)
    adata.X = None
    with pytest.raises(ValueError, match="adata.X is empty"):
        fssf(model, "kind", SET)


def test_import_is_light():
    code = "import sys, lucidvi.metrics; print({'scanpy', 'scvi', 'torch'} & set(sys.modules))"
    done = run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    "name", ["SCVI", "LinearSCVI", "ACE", "SIVAE", "SCARE", "SCARE with a set"]
)
def test_swaps_behind_the_first_layer_are_those_of_the_whole_model(name, monkeypatch):
    """SIVAE reads the depth of a cell, which a swap changes, and a SCARE set reads its genes twice: both run as a whole."""
    rng = np.random.default_rng(0)
    adata = AnnData(sp.csr_matrix(rng.poisson(2.0, (80, 30)).astype(np.float32)))
    adata.obs["group"] = np.resize(["a", "b"], 80)
    adata.var["set"] = np.arange(30) < 6
    setup = {"ACE": {"labels_key": "group"}, "SCARE with a set": {"feature_set_key": "set"}}
    cls = getattr(lv.model, name.split()[0], None) or getattr(scvi.model, name)
    if name == "ACE":
        adata.X = np.log1p(adata.X)
    cls.setup_anndata(adata, **setup.get(name, {}))
    options = {"SCARE": {"minimal": True, "steering": "attribution"}, "SIVAE": {"gene_likelihood": "nb"}}  # fmt: skip
    model = cls(adata, n_latent=4, **options.get(name, {}))
    model.train(2, enable_progress_bar=False, accelerator="cpu")
    sets = rng.random((3, 30)) < 0.3
    receivers, donors = np.arange(40), rng.integers(40, 80, (3, 40))
    given = (model, adata, None, receivers, donors, sets)
    expected = list(_gene_swaps._by_whole_model(*given, {}))
    runs = []
    whole = _gene_swaps._by_whole_model
    monkeypatch.setattr(_gene_swaps, "_by_whole_model", lambda *a: runs.append(len(a[3])) or whole(*a))  # fmt: skip
    found = list(_gene_swaps.swapped_latents(*given))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert (40 in runs) == (name in ("SIVAE", "SCARE with a set"))
