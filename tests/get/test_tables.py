"""Tables of stored results, with awkward names, before and after a file."""

import numpy as np
import pandas as pd
import pytest

import lucidvi as lv

GROUPS = ["CD4/CD8 T", "B 'memory' \"x\"", "Füße βγ", ""]  # as in conftest.py
FEATURES = ["HLA/A", "a b", "'q' \"d\"", "ßµ é", "", "plain"]
STRINGS = pd.Series(["a"]).dtype


def test_subset_sets(adata):
    table = lv.get.subset_sets(adata)
    assert table.columns[:3].tolist() == ["gene", "group", "n_features"]
    assert table["group"].tolist() == GROUPS * 2
    assert table["group"].dtype == STRINGS
    one = lv.get.subset_sets(adata, target="gene one/1", group=["", GROUPS[0]])
    assert one["group"].tolist() == [GROUPS[0], ""]
    assert one.index.tolist() == [0, 1]


def test_subset_features(adata):
    table = lv.get.subset_features(adata, "subset_perturbation", group=GROUPS[1])
    assert table["feature"].tolist() == FEATURES[:2] * 2
    assert table["rank"].tolist() == [1, 2, 1, 2]
    assert table["chrom"].tolist() == ["chr1", ""] * 2
    assert np.isnan(table["start"].tolist()[1])


def test_tables_are_copies(adata):
    table = lv.get.subset_sets(adata)
    table["delta"] = 5.0
    assert (lv.get.subset_sets(adata)["delta"] == -1).all()


def test_gene_panel(adata):
    table = lv.get.gene_panel(adata, "gene_panel")
    assert table["group"].tolist() == [g for k, g in enumerate(GROUPS) for _ in range(k + 1)]
    assert table["in_panel"].all() and (table["change"] == -1.5).all()
    assert (table["reference"] == "rest").all()
    names = adata.uns["gene_panel"]["names"]
    assert table.loc[table["group"] == "", "names"].tolist() == list(
        names[names.dtype.names[3]][:4]
    )
    expected = ["names", "scores", "signs", "logfoldchanges", "pvals", "pvals_adj"]
    assert [c for c in table if c in expected] == expected
    assert set(table.loc[table["group"] == GROUPS[1], "pvals_adj"]) == {0.02}


def test_gene_panel_of_a_size(adata):
    table = lv.get.gene_panel(adata, group=GROUPS[0], n_genes=3)
    assert table["in_panel"].tolist() == [True, False, False]
    assert table["scores"].is_monotonic_decreasing
    assert table["rank"].tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match="n_genes=0"):
        lv.get.gene_panel(adata, n_genes=0)


def test_gene_panel_is_what_scanpy_reads(adata):
    import scanpy as sc

    own = lv.get.gene_panel(adata, group=GROUPS[0], n_genes=6)
    other = sc.get.rank_genes_groups_df(adata, GROUPS[0], key="gene_panel")
    assert own["names"].tolist() == other["names"].tolist()
    np.testing.assert_allclose(own["scores"], other["scores"])


def test_qvals_and_frequencies_come_along(adata):
    entry = adata.uns["gene_panel"]
    entry["qvals"] = entry["pvals"].copy()
    entry["selection_frequency"] = entry["scores"].copy()
    table = lv.get.gene_panel(adata, group=GROUPS[1], n_genes=6).set_index("names")
    assert (table["qvals"] == 0.02).all()
    assert table["selection_frequency"].tolist() == table["scores"].tolist()


def test_panels(adata):
    table = lv.get.panels(adata)
    assert table["group"].tolist() == GROUPS
    assert table["n_genes"].tolist() == [1, 2, 3, 4]


def test_loadings(adata):
    table = lv.get.loadings(adata)
    assert table.index.tolist() == FEATURES and table.index.name == "feature"
    assert table.columns.tolist() == ["latent 0", "latent 1", "latent 2"]
    np.testing.assert_allclose(table, adata.varm["loadings"])
    adata.varm["table"] = pd.DataFrame({"Z_0": np.arange(6.0)}, index=adata.var_names)
    assert lv.get.loadings(adata, "table").columns.tolist() == ["Z_0"]


def test_attributions(adata):
    table = lv.get.attributions(adata)
    assert table.columns.tolist() == [
        "feature",
        "target",
        "group",
        "attribution",
        "attribution_abs",
    ]
    assert len(table) == len(FEATURES) * 2 * len(GROUPS)
    first = table[(table["target"] == "ü 2") & (table["group"] == GROUPS[0])]
    assert first["attribution_abs"].is_monotonic_decreasing
    by_name = first.set_index("feature")["attribution"].loc[FEATURES]
    np.testing.assert_allclose(by_name, adata.varm["attributions"][:, 1])


def test_attributions_by_rank(adata):
    options = {"target": "T/1", "group": "", "n_features": 2}
    high = lv.get.attributions(adata, by="highest", **options)
    low = lv.get.attributions(adata, by="lowest", **options)
    values = np.sort(adata.varm["attributions"][:, 6])
    np.testing.assert_allclose(high["attribution"], values[::-1][:2])
    np.testing.assert_allclose(low["attribution"], values[:2])
    assert "qval" not in high
    adata.varm["attributions_qvals"] = np.full((6, 8), 0.25)
    assert (lv.get.attributions(adata)["qval"] == 0.25).all()
    with pytest.raises(ValueError, match="by='size' is unknown.*'abs'"):
        lv.get.attributions(adata, by="size")


def test_faithfulness(adata):
    table = lv.get.faithfulness(adata, group="")
    assert table[["method", "group", "measure"]].values.tolist() == [
        ["saliency", "", "deletion_area"]
    ]
    curves = lv.get.faithfulness_curves(adata, group=[GROUPS[0]])
    assert curves["n_features"].tolist() == [0, 1]


def test_feature_graph(adata):
    table = lv.get.feature_graph(adata)
    assert table.columns.tolist() == ["feature", "neighbor", "weight", "distance"]
    assert len(table) == 10
    assert set(table.loc[table["feature"] == FEATURES[1], "neighbor"]) == {FEATURES[0], FEATURES[2]}
    assert (table["distance"] == 2.0).all()
    one = lv.get.feature_graph(adata, feature="")
    assert one["neighbor"].tolist() == ["ßµ é", "plain"]


def test_categories_of_other_types(adata):
    """Integer clusters and categories: groups are asked for by name."""
    sets = adata.uns["subset_perturbation"]["sets"]
    sets["group"] = pd.Categorical([0, 1, 2, 3] * 2)
    assert lv.get.subset_sets(adata, group=1)["group"].tolist() == ["1", "1"]
    assert lv.get.subset_sets(adata, group="1")["group"].dtype == STRINGS


def test_cross_effect(adata):
    """Sets by groups, in the stored order, with what the numbers are."""
    table = lv.get.cross_effect(adata)
    assert list(table.columns) == GROUPS
    assert list(table.index) == [f"gene ü | {group}" for group in GROUPS]
    np.testing.assert_allclose(table, np.arange(16).reshape(4, 4) / 10 - 0.4)
    assert table.attrs == {"relative": True, "output": "expression"}


def test_links(adata):
    table = lv.get.links(adata)
    assert table["group"].unique().tolist() == GROUPS
    assert table["peak"].tolist() == FEATURES[:2] * 4
    assert not table["in_set"].any()
    marked = lv.get.links(adata, sets="subset_perturbation", target="gene one/1", group="")
    assert marked["in_set"].tolist() == [True, True]
    members = lv.get.links(adata, "subset_perturbation", group=GROUPS[1])
    assert members["in_set"].all()
    assert members["peak"].tolist() == FEATURES[:2] * 2
    assert members.columns.tolist() == table.columns.tolist()
    adata.uns["subset_perturbation"]["params"]["feature_kind"] = "genes"
    with pytest.raises(ValueError, match="holds sets of genes"):
        lv.get.links(adata, "subset_perturbation")


@pytest.mark.parametrize("table", ["pairs", "members", "sets"])
def test_set_interactions(adata, table):
    found = lv.get.set_interactions(adata, table=table)
    assert found["group"].tolist() == GROUPS
    assert lv.get.set_interactions(adata, table=table, group=GROUPS[2])["gene"].tolist() == [
        "gene one/1"
    ]
