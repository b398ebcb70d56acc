"""Every bad input is named before any work."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import lucidvi as lv

QUIET = {"enable_progress_bar": False, "logger": None, "accelerator": "cpu"}


@pytest.fixture
def adata():
    rng = np.random.default_rng(0)
    names = [f"gene_{i}" for i in range(8)]
    kinds = np.resize(["k1", "k2"], 20)
    adata = ad.AnnData(
        rng.poisson(2.0, (20, 8)).astype(np.float32),
        obs=pd.DataFrame({"kind": kinds}, index=[f"cell_{i}" for i in range(20)]),
        var=pd.DataFrame({"pathway": np.arange(8) < 3, "other": np.arange(8) > 5}, index=names),
    )
    adata.varm["by_kind"] = pd.DataFrame(
        {"k1": np.arange(8) < 2, "k2": np.arange(8) > 5}, index=names
    )
    return adata


def setup(adata, key="pathway", **kwargs):
    lv.model.SCARE.setup_anndata(adata, feature_set_key=key, **kwargs)


def refuse(adata, error, match, key="pathway", **kwargs):
    before = list(adata.uns)
    with pytest.raises(error, match=match):
        setup(adata, key, **kwargs)
    assert list(adata.uns) == before  # nothing has been registered


@pytest.mark.parametrize(
    ("column", "match"),
    [
        (np.zeros(8, dtype=bool), "'pathway' of .var is empty"),
        (np.ones(8, dtype=bool), "holds all 8 genes"),
        (np.arange(8), "values such as 2"),
        (np.array([0.0, 1, np.nan, 0, 0, 0, 0, 0]), "NaN"),
        (pd.array([True, None] * 4, dtype="boolean"), "NaN"),
        (["yes", "no"] * 4, "values such as 'yes'"),
        (np.full(8, 0.5), "values such as"),
    ],
)
def test_bad_columns(adata, column, match):
    adata.var["pathway"] = column
    refuse(adata, ValueError, match)


@pytest.mark.parametrize(
    "column",
    [
        np.arange(8) < 3,
        (np.arange(8) < 3).astype(int),
        (np.arange(8) < 3).astype(float),
        pd.array([True, False] * 4, dtype="boolean"),
        np.array([True, False] * 4, dtype=object),
    ],
)
def test_good_columns(adata, column):
    adata.var["pathway"] = column
    setup(adata)
    sets = lv.model.SCARE(adata).feature_sets["pathway"]
    np.testing.assert_array_equal(sets, np.asarray(column).astype(bool))


def test_unknown_keys(adata):
    refuse(adata, KeyError, "Did you mean 'pathway'", "pathwy")
    refuse(adata, KeyError, "'pathwy'.*Did you mean 'pathway'", ["other", "pathwy"])
    refuse(adata, ValueError, "empty", [])
    refuse(adata, ValueError, "more than once", ["other", "other"])
    refuse(adata, TypeError, "int", 3)
    refuse(adata, TypeError, "list", ["other", 3])


def test_ambiguous_key(adata):
    adata.layers["pathway"] = np.ones((20, 8))
    refuse(adata, ValueError, r"in \.var and \.layers")


def test_not_an_anndata_or_a_view(adata):
    with pytest.raises(TypeError, match="DataFrame"):
        setup(adata.to_df())
    with pytest.raises(ValueError, match="copy"):
        setup(adata[:5])


def test_tables_of_labels(adata):
    refuse(adata, ValueError, "Pass labels_key", "by_kind")
    refuse(adata, KeyError, "Did you mean 'kind'", "by_kind", labels_key="kin")
    adata.obs["kind"] = ["k1", "k3"] * 10
    refuse(adata, ValueError, "no column for label 'k3'", "by_kind", labels_key="kind")
    adata.varm["matrix"] = np.ones((8, 2))
    refuse(adata, TypeError, "DataFrame", "matrix", labels_key="kind")
    adata.varm["missing"] = adata.varm["by_kind"].astype(float).replace(0, np.nan)
    refuse(adata, ValueError, "NaN", "missing", labels_key="kind")
    adata.varm["empty"] = adata.varm["by_kind"] & False
    refuse(adata, ValueError, "'k1' of .varm.*empty", "empty", labels_key="kind")


def test_sets_per_cell(adata):
    adata.obsm["narrow"] = np.ones((20, 3))
    refuse(adata, ValueError, r"shape \(20, 3\)", "narrow")
    adata.obsm["order"] = pd.DataFrame(1, index=adata.obs_names, columns=adata.var_names[::-1])
    refuse(adata, ValueError, "order of .var_names", "order")
    adata.layers["values"] = adata.X
    refuse(adata, ValueError, "values such as", "values")
    adata.layers["none"] = np.zeros((20, 8))
    refuse(adata, ValueError, "0 throughout", "none")


def test_new_data_without_sets_per_cell(adata):
    adata.layers["own"] = np.tile(np.arange(8) < 3, (20, 1))
    setup(adata, "own")
    with pytest.raises(ValueError, match="set for every cell.*steering='attribution'"):
        lv.model.SCARE(adata)
    model = lv.model.SCARE(adata, steering="attribution")
    other = adata.copy()
    del other.layers["own"]
    with pytest.raises(KeyError, match="own.*missing"):
        model._validate_anndata(other)


def test_other_genes(adata):
    setup(adata)
    model = lv.model.SCARE(adata)
    model.is_trained_ = True
    other = adata.copy()
    other.var_names = [f"new_{i}" for i in range(8)]
    with pytest.raises(ValueError, match="lack 8 of the 8 features.*'gene_0', 'gene_1', 'gene_2'"):
        model.get_latent_representation(other)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"scalar": "projections"}, ValueError, "Did you mean 'projection'"),
        ({"attribution": "shap"}, ValueError, "expected_gradients"),
        ({"reparametrization": "abs"}, ValueError, "abs_minmax"),
        ({"attribution_loss": "huber"}, ValueError, "'mae', 'mse'"),
        ({"combine": "mean"}, ValueError, "square_sum"),
        ({"n_references": 0}, ValueError, "n_references=0"),
        ({"n_steps": 2.5}, TypeError, "n_steps"),
        ({"disjoint": "yes"}, TypeError, "disjoint"),
        ({"disjoint": True}, ValueError, "at least two feature sets"),
        ({"disjoint": True, "scalar": "reconstruction"}, ValueError, "another scalar"),
        ({"minimal": True}, ValueError, "without feature_set_key"),
    ],
)
def test_bad_options(adata, options, error, match):
    setup(adata)
    with pytest.raises(error, match=match):
        lv.model.SCARE(adata, steering="attribution", **options)


def test_disjoint_needs_dimensions_and_columns(adata):
    setup(adata, ["pathway", "other"])
    with pytest.raises(ValueError, match="n_latent=2 or more"):
        lv.model.SCARE(adata, steering="attribution", disjoint=True, n_latent=1)
    setup(adata, "by_kind", labels_key="kind")
    with pytest.raises(ValueError, match="at least two feature sets in .var"):
        lv.model.SCARE(adata, steering="attribution", disjoint=True)


@pytest.mark.parametrize(
    ("plan", "error", "match"),
    [
        ({"attribution_weight": -1.0}, ValueError, "at least 0"),
        ({"attribution_weight": np.nan}, ValueError, "finite"),
        ({"attribution_weight": "1"}, TypeError, "str"),
        ({"steering": 1.0}, ValueError, "between 0 and 1"),
        ({"steering": np.nan}, ValueError, "between 0 and 1"),
        ({"steering": 0.01}, ValueError, "Ask for more"),
        ({"attribution_warmup_epochs": 2}, ValueError, "fixed weight"),
        ({"attribution_warmup_epochs": -1}, ValueError, "attribution_warmup_epochs=-1"),
    ],
)
def test_bad_weights(adata, plan, error, match):
    setup(adata)
    with pytest.raises(error, match=match):
        lv.model.SCARE(adata, steering="attribution").train(1, plan_kwargs=plan, **QUIET)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"steering": "blocks"}, ValueError, "Did you mean 'block'"),
        ({"n_components": 0}, ValueError, "n_components=0"),
        ({"n_components": 4}, ValueError, "'pathway' has 3 genes, fewer than its 4 dimensions"),
        ({"share": 0.0}, ValueError, "share"),
        ({"set_weight": "4"}, TypeError, "set_weight"),
        ({"gene_likelihood": "normal"}, ValueError, "needs counts"),
        ({"disjoint": True}, ValueError, "steering='attribution'"),
        ({"minimal": True}, ValueError, "steering='attribution'"),
    ],
)
def test_bad_options_of_blocks(adata, options, error, match):
    setup(adata)
    with pytest.raises(error, match=match):
        lv.model.SCARE(adata, **options)


def test_bad_sets_of_blocks(adata):
    adata.var["one"] = np.arange(8) == 2
    adata.var["same"] = adata.var["pathway"]
    setup(adata, "one")
    with pytest.raises(ValueError, match="'one' has 1 gene, fewer than its 2"):
        lv.model.SCARE(adata)
    setup(adata, ["pathway", "same"])
    with pytest.raises(ValueError, match="'pathway' and 'same' have the same genes"):
        lv.model.SCARE(adata)
    for names in (["free"], ["pathway", "pathway_sd"]):
        for name in names[-1:]:
            adata.var[name] = np.arange(8) > 4
        setup(adata, names)
        with pytest.raises(ValueError, match=f"cannot be called '{names[-1]}'"):
            lv.model.SCARE(adata)
    adata.X[:, :2] = 3
    adata.var["constant"] = np.arange(8) < 2
    setup(adata, "constant")
    with pytest.raises(ValueError, match="None of the 2 genes of feature set 'constant' varies"):
        lv.model.SCARE(adata).train(1, **QUIET)


@pytest.mark.parametrize("steering", ["block", "likelihood"])
def test_options_of_another_steering(adata, steering):
    setup(adata)
    for plan in ({"attribution_weight": 1.0}, {"steering": 0.6}, {"attribution_warmup_epochs": 2}):
        with pytest.raises(ValueError, match="SCARE\\(adata, steering='attribution'\\)"):
            lv.model.SCARE(adata, steering=steering).train(1, plan_kwargs=plan, **QUIET)


def test_nothing_to_steer_towards(adata):
    setup(adata, None)
    with pytest.raises(ValueError, match="feature_set_key.*minimal=True"):
        lv.model.SCARE(adata).train(1, **QUIET)


def test_not_set_up(adata):
    with pytest.raises(ValueError, match="setup_anndata"):
        lv.model.SCARE(adata)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"method": "shap"}, ValueError, "method='shap'"),
        ({"scalar": "mean"}, ValueError, "scalar='mean'"),
        ({"aggregate": "mean"}, ValueError, "mean_abs"),
        ({"n_references": 0}, ValueError, "n_references"),
        ({"batch_size": 0}, ValueError, "batch_size"),
        ({"dimensions": [10]}, ValueError, "from 0 to 9"),
        ({"dimensions": []}, ValueError, "from 0 to 9"),
        ({"dimensions": [0], "scalar": "reconstruction"}, ValueError, "Leave out"),
        ({"reference_cells": [20]}, ValueError, "from 0 to 19"),
        ({"reference_cells": []}, ValueError, "at least one cell"),
    ],
)
def test_bad_attributions(adata, options, error, match):
    setup(adata)
    model = lv.model.SCARE(adata)
    model.is_trained_ = True
    with pytest.raises(error, match=match):
        model.get_attributions(**options)


def test_untrained(adata):
    setup(adata)
    with pytest.raises(RuntimeError, match="train"):
        lv.model.SCARE(adata).get_attributions()
