"""Kinds of input that users have, by the functions that meet them: the mechanism is tested, not one case of it."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import scvi

import lucidvi as lv
from lucidvi.explain._cells import labels_of_cells
from lucidvi.explain._results import origin

QUIET = {"enable_progress_bar": False, "logger": None, "accelerator": "cpu"}
E = lv.explain
GROUPED = {
    "attributions": lambda m, g, **k: E.attributions(m, "gene_1", groupby=g, n_cells=30, n_draws=3, n_references=6, progress=False, **k),
    "faithfulness": lambda m, g, **k: E.faithfulness(m, "gene_1", groupby=g, n_cells=10, n_draws=2, n_references=4, n_null=2, n_models=1, n_bootstrap=2, progress=False, **k),
    "gene_panel": lambda m, g, **k: E.gene_panel(m, g, n_steps=3, n_cells=20, n_null=2, progress=False, **k),
    "joint_panel": lambda m, g, **k: E.joint_panel(m, g, 8, n_cells=60, progress=False, **k),
    "set_effect": lambda m, g, **k: E.set_effect(m, {"s": ["gene_1", "gene_2", "gene_3"]}, groupby=g, n_null=9, progress=False, **k),
    "set_space": lambda m, g, **k: E.set_space(m, {"s": ["gene_1", "gene_2", "gene_3"]}, groupby=g, **k),
    "subset_perturbation": lambda m, g, **k: E.subset_perturbation(m, "gene_1", g, n_features=2, n_null=2, progress=False, **k),
}  # fmt: skip
ALONE = [
    name for name in GROUPED if name not in ("joint_panel", "set_effect", "set_space")
]  # one result for each group
ALL = GROUPED | {
    "loadings": lambda m, g, **k: E.loadings(m, n_cells=20, **k),
}
COLUMNS = {
    "text": lambda a: a.astype(str),
    "category": lambda a: a,
    "ordered": lambda a: a.cat.reorder_categories(a.cat.categories[::-1], ordered=True),
    "unused categories": lambda a: a.cat.add_categories(["nobody"]),
    "boolean": lambda a: a == "label_0",
    "nullable boolean": lambda a: (a == "label_0").astype("boolean"),
    "integer": lambda a: a.cat.codes.astype(int),
    "category of integers": lambda a: a.cat.codes.astype(int).astype("category"),
    "nullable integer": lambda a: a.cat.codes.astype("Int64"),
    "float": lambda a: a.cat.codes.astype(float),
    "unusual names": lambda a: a.cat.rename_categories(["T/NK", "δ 'cells'", "$x_1"]),
    "missing": lambda a: a.astype(str).where(np.arange(len(a)) > 4),
}


@pytest.fixture(scope="module")
def model():
    scvi.settings.seed = 0
    data = scvi.data.synthetic_iid(batch_size=100, n_genes=20, sparse_format="csr_matrix")
    scvi.model.SCVI.setup_anndata(data, batch_key="batch")
    model = scvi.model.SCVI(data, n_latent=4, n_hidden=16)
    model.train(3, train_size=0.7, **QUIET)
    return model


@pytest.fixture(autouse=True)
def clean(model):
    """Results of one test are not in the way of the next."""
    data = model.adata
    obs = data.obs.copy()
    yield
    data.obs = obs
    for store in (data.uns, data.varm, data.obsm, data.layers, data.var):
        for key in [k for k in store if k and not k.startswith("_scvi")]:
            del store[key]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", GROUPED)
@pytest.mark.parametrize("kind", COLUMNS)
def test_columns_of_groups(model, name, kind, tmp_path):
    """Every kind of column gives the same groups, can be written, and stays as it is."""
    data = model.adata
    data.obs["given"] = column = COLUMNS[kind](data.obs["labels"])
    before = data.obs["given"].copy()
    GROUPED[name](model, "given", key_added="result")
    pd.testing.assert_series_equal(data.obs["given"], before)
    expected = sorted({str(v) for v in column.dropna()})
    entry = data.uns["result"]
    table = {"attributions": "columns", "faithfulness": "summary", "gene_panel": "panels", "joint_panel": "genes"}.get(name, "sets")  # fmt: skip
    assert sorted(set(entry[table]["group"])) == expected
    part = ad.AnnData(
        obs=data.obs[[]], var=data.var[[]], uns={"result": entry}, varm=dict(data.varm)
    )
    part.write_h5ad(tmp_path / "a.h5ad")
    again = ad.read_h5ad(tmp_path / "a.h5ad").uns["result"]
    assert sorted(set(again[table]["group"].astype(str))) == expected


@pytest.mark.parametrize("name", ALONE)
def test_a_group_does_not_depend_on_the_others(model, name):
    data = model.adata
    last = sorted(data.obs["labels"].unique())[-1]
    GROUPED[name](model, "labels", key_added="all")
    GROUPED[name](model, "labels", groups=last, key_added="one")
    both = [data.uns[key] for key in ("all", "one")]
    if name == "faithfulness":
        tables = [e["summary"][e["summary"]["group"] == last].reset_index(drop=True) for e in both]
        pd.testing.assert_frame_equal(*tables)
    else:
        every, one = (sp.csr_array(data.varm[key]).toarray() for key in ("all", "one"))
        np.testing.assert_array_equal(every[:, -1], one[:, 0])


@pytest.mark.parametrize("values", [[1, "1"], [1.0, "1.0"], ["a", ""], ["a", " "], ["a", "b\0"]])
@pytest.mark.parametrize("name", GROUPED)
def test_names_that_are_none(model, name, values):
    n = model.adata.n_obs
    model.adata.obs["mixed"] = pd.Series(
        np.resize(np.array(values, dtype=object), n), model.adata.obs_names
    )
    with pytest.raises(ValueError, match="groupby='mixed'"):
        GROUPED[name](model, "mixed")
    model.adata.obs["none"] = np.nan
    with pytest.raises(ValueError, match="missing for all"):
        GROUPED[name](model, "none")


@pytest.mark.parametrize("name", ["attributions", "gene_panel"])
def test_words_that_are_kept(model, name):
    word = {"attributions": "all", "gene_panel": "each"}[name]
    data = model.adata
    data.obs["given"] = data.obs["labels"].cat.rename_categories({"label_0": word})
    with pytest.raises(ValueError, match=f"reference='{word}'"):
        GROUPED[name](model, "given")


@pytest.mark.parametrize(
    "key", ["a/b", "", " ", ".", "..", "a\0", pytest.param("a" * 1001, id="long"), None, 1, ["a"]]
)
@pytest.mark.parametrize("name", ALL)
def test_names_no_file_can_hold(model, name, key):
    with pytest.raises((TypeError, ValueError), match="key_added"):
        ALL[name](model, "labels", key_added=key)


@pytest.mark.parametrize("name", GROUPED)
def test_groups_no_file_can_hold(model, name):
    for label in ("a" * 1001, "a\0", " "):
        column = model.adata.obs["labels"].cat.rename_categories({"label_0": label})
        model.adata.obs["odd"] = column
        with pytest.raises(
            ValueError, match="groupby='odd' has a group called .* no file can hold"
        ):
            GROUPED[name](model, "odd")


@pytest.mark.parametrize("slot", ["uns", "varm", "layers", "another result"])
@pytest.mark.parametrize("name", ALL)
def test_nothing_of_the_user_is_replaced(model, name, slot):
    data = model.adata
    mine = {"uns": {"mine": 1}, "varm": np.ones((data.n_vars, 2)), "layers": data.X.copy()}.get(
        slot
    )
    if mine is None:
        other = "loadings" if name != "loadings" else "attributions"
        ALL[other](model, "labels", key_added="taken")
    else:
        getattr(data, slot)["taken"] = mine
    with pytest.raises(ValueError, match="taken.*key_added"):
        ALL[name](model, "labels", key_added="taken")
    if mine is not None:
        assert getattr(data, slot)["taken"] is mine or (getattr(data, slot)["taken"] != mine).sum() == 0  # fmt: skip


def test_what_belonged_to_an_earlier_result_goes(model):
    options = {"n_draws": 2, "n_references": 4, "progress": False}
    E.attributions(model, "gene_1", per_cell=True, **options)
    assert "attributions" in model.adata.layers
    E.attributions(model, "gene_2", n_cells=5, **options)
    assert "attributions" not in model.adata.layers


def test_sets_of_other_groups_are_replaced(model):
    data = model.adata
    GROUPED["subset_perturbation"](model, "labels")
    old = data.uns["subset_perturbation"]["sets"]
    data.obs["labels"] = np.random.default_rng(0).permutation(data.obs["labels"].astype(str))
    with pytest.warns(UserWarning, match="made from other groups"):
        GROUPED["subset_perturbation"](model, "labels")
    assert not data.uns["subset_perturbation"]["sets"].equals(old)


@pytest.fixture(scope="module")
def ace():
    scvi.settings.seed = 0
    data = lv.datasets.ace_simulation(n_cells=300, n_dependent=10, n_noise=10)
    lv.model.ACE.setup_anndata(data, labels_key="group")
    model = lv.model.ACE(data, n_latent=4, hidden=(16,))
    model.train(3, train_size=0.5, **QUIET)
    return model


BUILDS_ON = {
    "gene_panel": (
        lambda m: E.gene_panel(m, "group", n_steps=3, n_cells=20, n_null=1, progress=False),
        lambda m: E.panel_confidence(m, n_draws=1, n_copies=1, progress=False),
    ),
    "attributions": (
        lambda m: E.attributions(m, {"label": "group_0"}, groupby="group", n_cells=20, n_draws=3, n_references=6, progress=False),
        lambda m: E.attribution_confidence(m, n_features=2, n_draws=10, progress=False),
    ),
    "subset_perturbation": (
        lambda m: E.subset_perturbation(m, {"latent": [0]}, "group", n_features=2, n_null=1, progress=False),
        lambda m: E.cross_effect(m),
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("change", ["model", "groups", "features"])
@pytest.mark.parametrize("first", BUILDS_ON)
def test_stale_results_are_refused(ace, first, change):
    make, use = BUILDS_ON[first]
    data = ace.adata
    keep = data.obs["group"].copy(), {k: v.clone() for k, v in ace.module.state_dict().items()}
    make(ace)
    if change != "groups":
        use(ace)
    try:
        if change == "model":
            with np.errstate(all="ignore"):
                for value in ace.module.parameters():
                    value.data.mul_(1.01)
        elif change == "groups":
            data.obs["group"] = np.random.default_rng(0).permutation(keep[0].astype(str))
        else:
            data.uns[first]["made_from"]["features"] = "others"
        with pytest.raises(ValueError, match="was made .*Call lucidvi.explain"):
            use(ace)
    finally:
        data.obs["group"] = keep[0]
        ace.module.load_state_dict(keep[1])
        for store in (data.uns, data.varm):
            for key in [
                k
                for k in store
                if k.split("_abs")[0] in (*BUILDS_ON, "cross_effect") or k.endswith("qvals")
            ]:
                del store[key]


@pytest.mark.parametrize("what", ["features", "cells", "groups"])
def test_what_a_result_is_made_from(ace, monkeypatch, what):
    """Other names of features or cells, and the same labels on other cells, make another text; nothing else does."""
    function = lv.adapters.adapter(ace)
    labels = labels_of_cells(function, "group")
    before = origin(function, labels)
    if what == "groups":
        labels = pd.Series(labels.to_numpy()[::-1], labels.index)
    else:
        names = getattr(function, what).to_series().astype(str).to_numpy().copy()
        names[0] += "x"
        if what == "features":
            function.features = pd.Index(names)
        else:
            monkeypatch.setattr(type(function), what, property(lambda _: pd.Index(names)))
    now = origin(function, labels)
    changed = {key for key in before if before[key] != now[key]}
    assert changed == ({"cells", "groups"} if what == "cells" else {what})


FORMATS = {
    "dense": np.asarray, "Fortran": np.asfortranarray, "csr": sp.csr_matrix, "csc": sp.csc_matrix,
    "float64": lambda x: x.astype(np.float64), "read-only": lambda x: (x.setflags(write=False), x)[1],
}  # fmt: skip


def _counts():
    x = np.random.default_rng(0).poisson(2.0, (80, 15)).astype(np.float32)
    obs = pd.DataFrame({"kind": np.resize(["a", "b"], 80)}, index=[f"c{i}" for i in range(80)])
    var = pd.DataFrame({"set": np.arange(15) < 4}, index=[f"g{i}" for i in range(15)])
    return ad.AnnData(x, obs=obs, var=var)


def _build(name, data):
    scvi.settings.seed = 0
    if name == "ACE":
        lv.model.ACE.setup_anndata(data, labels_key="kind")
        return lv.model.ACE(data, n_latent=3, hidden=(8,))
    if name == "SCARE":
        lv.model.SCARE.setup_anndata(data, feature_set_key="set")
        return lv.model.SCARE(data, n_latent=3, n_hidden=8)
    lv.model.SIVAE.setup_anndata(data)
    return lv.model.SIVAE(data, n_latent=2, hidden=(8,), n_feature_input=6, gene_likelihood="nb" if name == "SIVAE nb" else "normal")  # fmt: skip


def _data(name):
    data = _counts()
    if name in ("ACE", "SIVAE"):
        data.X = np.log1p(data.X / data.X.sum(1, keepdims=True) * 1e4).astype(np.float32)
    return data


@pytest.mark.parametrize("name", ["ACE", "SIVAE", "SIVAE nb", "SCARE"])
def test_formats_of_matrices(name):
    found = {}
    for kind, change in FORMATS.items():
        data = _data(name)
        data.X = change(data.X.copy())
        model = _build(name, data)
        model.train(2, **QUIET)
        found[kind] = model.get_latent_representation()
    for kind, z in found.items():
        np.testing.assert_allclose(z, found["dense"], atol=2e-3, err_msg=kind)


BAD = {
    "NaN": (np.nan, "NaN"), "infinite": (np.inf, "infinite"), "too large": (1e39, "too large"),
    "negative": (-1.0, "negative"),
}  # fmt: skip


@pytest.mark.parametrize("name", ["ACE", "SIVAE", "SIVAE nb", "SCARE"])
@pytest.mark.parametrize("kind", BAD)
def test_numbers_that_cannot_be_read(name, kind):
    """Found at set-up, in a layer, in training, and in new data."""
    value, said = BAD[kind]
    if kind == "negative" and name in ("ACE", "SIVAE"):
        pytest.skip("centred values are read")
    data = _data(name)
    bad = data.X.astype(np.float64).copy()
    bad[3, 2] = value
    wrong = _data(name)
    wrong.X = bad
    with pytest.raises(ValueError, match=said):
        _build(name, wrong)
    model = _build(name, data)
    good, data.X = data.X.copy(), bad
    with pytest.raises(ValueError, match=said):
        model.train(1, **QUIET)
    data.X = good
    model.train(1, **QUIET)
    with pytest.raises(ValueError, match=said):
        model.get_latent_representation(wrong)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", ALL)
def test_numbers_that_changed_after_training(model, name):
    """Of models of scvi-tools, too: before any work."""
    data, good = model.adata, model.adata.X
    try:
        data.X = data.X.copy()
        data.X = data.X.astype(np.float32)
        data.X.data[7] = np.nan
        with pytest.raises(ValueError, match="NaN"):
            ALL[name](model, "labels")
        data.X = sp.csr_matrix(np.log1p(good.toarray()))
        with pytest.warns(UserWarning, match="as counts, but it holds fractions"):
            ALL[name](model, "labels")
    finally:
        data.X = good


@pytest.mark.parametrize("change", ["nothing", "cells", "features", "both"])
@pytest.mark.parametrize("name", ["ACE", "SIVAE", "SIVAE nb", "SCARE"])
def test_order_of_new_data(name, change):
    data = _data(name)
    model = _build(name, data)
    model.train(1, **QUIET)
    expected = pd.DataFrame(model.get_latent_representation(), index=data.obs_names)
    cells = slice(None, None, -1) if change in ("cells", "both") else slice(None)
    features = slice(None, None, -1) if change in ("features", "both") else slice(None)
    new = data[cells, features].copy()
    found = pd.DataFrame(model.get_latent_representation(new), index=new.obs_names)
    np.testing.assert_allclose(found.loc[expected.index], expected, atol=1e-5)
