"""Interactions inside sets: by changing the data of a copy, stored, read and drawn."""

import mudata as md
import numpy as np
import pandas as pd
import pytest

import lucidvi as lv

KEYS = ("subset_perturbation", "set_interactions")


@pytest.fixture
def explained(trained):
    lv.explain.subset_perturbation(trained, ["gene_0001", "gene_0003"], "cell_type", groups=["type_0", "type_1"], n_features=4, n_null=0, progress=False, overwrite=True)  # fmt: skip
    lv.explain.set_interactions(trained, progress=False)
    yield trained
    for key in KEYS:
        trained.adata["atac"].uns.pop(key, None)
        trained.adata["atac"].varm.pop(key, None)


def held_out(model, group):
    function = lv.adapters.adapter(model)
    labels = model.adata.obs["cell_type"].astype(str).to_numpy()
    return np.intersect1d(np.flatnonzero(labels == group), function.held_out_cells)


def test_effects_equal_those_of_a_changed_copy(explained, expression):
    pairs, members, sets = (lv.get.set_interactions(explained.adata, table=t, target="gene_0001", group="type_1") for t in ("pairs", "members", "sets"))  # fmt: skip
    assert len(pairs) == 6
    cells = held_out(explained, "type_1")
    of = lambda peaks: expression(explained, "gene_0001", cells, peaks)
    before = of([])
    names = members["feature"].tolist()
    close = {"rtol": 1e-5, "atol": 1e-5 * before.mean()}
    joint = (of(names) - before).mean()
    assert np.isclose(sets["effect"][0], joint, **close)
    for row in members.itertuples():
        rest = [n for n in names if n != row.feature]
        assert np.isclose(row.effect, (of([row.feature]) - before).mean(), **close)
        assert np.isclose(row.effect_of_rest, (of(rest) - before).mean(), **close)
        assert np.isclose(row.needed, joint - row.effect_of_rest, **close)
    x = explained.adata["atac"].to_df().iloc[cells] > 0
    for row in pairs.itertuples():
        both = of([row.feature_1, row.feature_2])
        assert np.isclose(row.effect, (both - before).mean(), **close)
        assert np.isclose(row.interaction_linear, row.effect - row.effect_1 - row.effect_2)
        at = (x[row.feature_1] & x[row.feature_2]).to_numpy()
        if at.any():
            change = [np.log(v[at].mean() / before[at].mean()) for v in (of([row.feature_1]), of([row.feature_2]), both)]  # fmt: skip
            assert np.isclose(row.interaction_model, change[2] - change[0] - change[1], atol=1e-3)
    assert np.isclose(sets["interaction_linear"][0], joint - members["effect"].sum(), **close)
    assert sets["model_low"][0] <= sets["interaction_model"][0] <= sets["model_high"][0]


def test_round_trip_and_readers(explained, tmp_path):
    table = lv.get.set_interactions(explained.adata)
    explained.adata.write_h5mu(tmp_path / "x.h5mu")
    back = md.read_h5mu(tmp_path / "x.h5mu")
    pd.testing.assert_frame_equal(lv.get.set_interactions(back), table)
    assert set(table["relation"]) <= {"redundant", "synergistic", "independent", "undecided"}
    same = table["feature_1"].str.split(":").str[0] == table["feature_2"].str.split(":").str[0]
    assert (table["distance"].notna() == same).all()
    with pytest.raises(ValueError, match="table='peaks' is unknown"):
        lv.get.set_interactions(back, table="peaks")


def test_same_seed_and_other_sets_change_nothing(explained):
    before = lv.get.set_interactions(explained.adata)
    out = lv.explain.set_interactions(explained, copy=True, progress=False)
    pd.testing.assert_frame_equal(lv.get.set_interactions(out), before)
    uns = explained.adata["atac"].uns
    for name in ("sets", "features"):
        uns[KEYS[0]][name] = uns[KEYS[0]][name].query("gene == 'gene_0003'")
    lv.explain.set_interactions(explained, progress=False)
    some = before[before["gene"] == "gene_0003"].reset_index(drop=True)
    pd.testing.assert_frame_equal(lv.get.set_interactions(explained.adata), some)


def test_genes_that_the_model_reads_are_not_measured(fitted):
    model = fitted("SCVI")
    names = model.adata.var_names[:1].tolist()
    lv.explain.subset_perturbation(model, names, n_features=2, n_null=0, progress=False, overwrite=True)  # fmt: skip
    out = lv.explain.set_interactions(model, copy=True, progress=False)
    table = lv.get.set_interactions(out)
    assert table["interaction"].isna().all()
    assert (table["relation"] == "undecided").all()
    assert table["interaction_linear"].notna().all()
    for slot in (model.adata.uns, model.adata.varm):
        slot.pop(KEYS[0], None)


def test_bad_input(explained):
    with pytest.raises(KeyError, match="holds no subset perturbation"):
        lv.explain.set_interactions(explained, key="nothing", progress=False)
    uns = explained.adata["atac"].uns[KEYS[0]]
    uns["features"] = uns["features"].assign(feature=uns["features"]["feature"] + "x")
    with pytest.raises(
        ValueError, match="Feature .*x' of the stored sets is not one of this model"
    ):
        lv.explain.set_interactions(explained, progress=False)
