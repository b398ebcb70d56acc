import joblib
import mudata as md
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from anndata import AnnData

import lucidvi as lv
from lucidvi.explain.subset import _found

KEY = "subset_perturbation"
GENES = ["gene_0001", "gene_0003"]
GROUPS = ["type_0", "type_1", "type_2"]
SETS = [
    *(
        "gene",
        "group",
        "n_features",
        "expression_before",
        "expression_after",
        "expression_measured",
    ),
    *("delta", "delta_se", "delta_low", "delta_high", "rel_delta", "rel_delta_exp"),
    *(
        "sum_of_single_effects",
        "redundancy",
        "cis_share",
        "n_null_distinct",
        "null_mean",
        "null_sd",
    ),
    *("p_value_model", "p_value", "association", "reliable", "delta_search", "rel_delta_search"),
    *("n_search_cells", "n_test_cells", "q_value"),
]
FEATURES = [
    *(
        "gene",
        "group",
        "rank",
        "feature",
        "single_effect",
        "single_low",
        "single_high",
        "joint_effect",
        "openness",
        "cis_weight",
    ),
    *("chrom", "start", "end", "tss", "distance"),
]


def explain(model, genes="gene_0001", **options):
    """Few random sets, no progress bar; the result."""
    lv.explain.subset_perturbation(model, genes, **{"n_null": 5, "progress": False} | options)
    return model.adata["atac"].uns[options.get("key_added", KEY)]


def assert_same(one, other):
    assert dict(one["params"]) == dict(other["params"])
    for table in ("sets", "features", "cells", "null"):
        pd.testing.assert_frame_equal(
            one[table], other[table], check_dtype=False, check_categorical=False
        )


def members(result):
    """Set of peaks of every pair."""
    pairs = result["features"].groupby(["gene", "group"], sort=False, observed=True)["feature"]
    return {pair: list(peaks) for pair, peaks in pairs}


@pytest.fixture
def count_searches(monkeypatch):
    """Genes and cells of every search, in order."""
    calls = []
    original = _found.search

    def counted(problem, *args, **kwargs):
        calls.append(problem.n_cells)
        return original(problem, *args, **kwargs)

    monkeypatch.setattr(_found, "search", counted)
    return calls


@pytest.fixture(scope="module")
def explained(train, simulate):
    """A model with a result for two genes in three types; only to be read."""
    model = train(simulate())
    lv.explain.subset_perturbation(
        model, GENES, "cell_type", n_features=4, n_null=20, progress=False
    )
    return model


@pytest.fixture
def result(explained):
    return explained.adata["atac"].uns[KEY]


# ---- what is stored ------------------------------------------------------------------------------


def test_layout(explained, result):
    atac = explained.adata["atac"]
    assert set(result) == {"params", "sets", "features", "cells", "null", "made_from"}
    pairs = [(gene, group) for group in GROUPS for gene in GENES]
    sets, features, cells, null = (result[t] for t in ("sets", "features", "cells", "null"))
    assert list(sets) == SETS
    assert list(zip(sets["gene"], sets["group"], strict=True)) == pairs
    assert list(features) == FEATURES
    assert list(cells) == ["gene", "group", "cell", "before", "after"]
    assert list(null) == ["gene", "group", "draw", "delta"]
    assert len(features) == 6 * 4
    assert len(null) == 6 * 20
    assert features.groupby(["gene", "group"])["rank"].apply(list).tolist() == [[1, 2, 3, 4]] * 6
    assert features.groupby(["gene", "group"])["feature"].nunique().eq(4).all()
    where = atac.var.loc[features["feature"]].reset_index(drop=True)
    for column in ("chrom", "start", "end"):
        assert features[column].astype(str).tolist() == where[column].astype(str).tolist()
    assert len(result["params"]["model"]) == 12
    assert {k: v for k, v in result["params"].items() if k != "model"} == {
        "n_features": 4, "direction": "down", "beta": 100.0, "through": "all", "method": "coordinate_descent",
        "start": "greedy", "n_candidates": 32, "max_sweeps": 10, "n_restarts": 0, "beam_size": 5,
        "min_openness": 0.0, "n_null": 20, "modality": "atac", "target_modality": "rna",
        "scale": "expm1", "output": "expression", "feature_kind": "peaks", "groupby": "cell_type", "seed": 0,
    }  # fmt: skip
    assert not {KEY} & set(explained.adata["rna"].uns)


def test_distance_to_the_tss(explained, result):
    genes = explained.adata["rna"].var
    for row in result["features"].itertuples():
        gene = genes.loc[row.gene]
        if row.chrom != gene["chrom"]:
            assert np.isnan(row.distance)
            continue
        gap = max(row.start - gene["tss"], gene["tss"] - row.end, 0)
        upstream = (row.end < gene["tss"]) == (gene["strand"] == "+")
        assert row.distance == (-gap if upstream and gap else gap)


def test_single_effects_matrix(explained, result):
    atac = explained.adata["atac"]
    assert sp.issparse(atac.varm[KEY])
    effects = atac.varm[KEY].toarray()
    assert effects.shape == (atac.n_vars, 6)
    assert effects.dtype == np.float32
    for column, (pair, peaks) in zip(effects.T, members(result).items(), strict=True):
        inside = atac.var_names.isin(peaks)
        assert not column[~inside].any()
        table = result["features"].set_index(["gene", "group"]).loc[[pair]]
        single = table.set_index("feature")["single_effect"].reindex(atac.var_names[inside])
        np.testing.assert_allclose(column[inside], single, rtol=1e-6)


def test_effects_equal_translations_of_a_masked_copy(explained, result, expression):
    """On test cells only, which neither training nor the search has seen."""
    mdata = explained.adata
    for i, ((gene, group), peaks) in enumerate(members(result).items()):
        row = result["sets"].iloc[i]
        in_group = np.flatnonzero(mdata["atac"].obs["cell_type"] == group)
        cells = np.intersect1d(in_group, explained.test_indices)
        assert row["n_test_cells"] == len(cells)
        assert row["n_search_cells"] == len(np.intersect1d(in_group, explained.train_indices))
        own = result["cells"].query("gene == @gene and group == @group")
        assert own["cell"].tolist() == mdata["atac"].obs_names[cells].tolist()
        searched = np.intersect1d(in_group, explained.train_indices)
        changed = -np.subtract(*(expression(explained, gene, searched, p) for p in ([], peaks)))
        before, after = (expression(explained, gene, cells, p) for p in ([], peaks))
        np.testing.assert_allclose(own["before"], before, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(own["after"], after, rtol=1e-4, atol=1e-4)
        expected = {
            "n_features": 4,
            "expression_before": before.mean(),
            "expression_after": after.mean(),
            "delta": (after - before).mean(),
            "rel_delta": (after - before).mean() / before.mean(),
            "rel_delta_exp": ((after - before) / (1 + before)).mean(),
            "delta_search": changed.mean(),
        }
        assert row[list(expected)].to_dict() == pytest.approx(expected, rel=1e-4, abs=1e-4)
        table = result["features"].query("gene == @gene and group == @group")
        for rank, member in enumerate(table.itertuples(), start=1):
            alone = expression(explained, gene, cells, [member.feature])
            joint = expression(explained, gene, cells, peaks[:rank])
            tolerance = {"rel": 1e-4, "abs": 1e-4 * before.mean()}
            assert member.single_effect == pytest.approx((alone - before).mean(), **tolerance)
            assert member.joint_effect == pytest.approx((joint - before).mean(), **tolerance)
        train = np.intersect1d(in_group, explained.train_indices)
        openness = (mdata["atac"][train, peaks].X > 0).toarray().mean(0)
        np.testing.assert_allclose(table["openness"], openness, rtol=1e-5)


def test_summary_numbers(explained, result, log_prediction):
    mdata = explained.adata
    for row in result["sets"].itertuples():
        gene, group = row.gene, row.group
        peaks = members(result)[gene, group]
        table = result["features"].query("gene == @gene and group == @group")
        total = table["single_effect"].sum()
        assert row.sum_of_single_effects == pytest.approx(total, rel=1e-5)
        assert row.redundancy == pytest.approx(total - row.delta, rel=1e-4, abs=1e-6)
        null = result["null"].query("gene == @gene and group == @group")["delta"]
        assert row.null_mean == pytest.approx(null.mean(), rel=1e-5)
        assert row.null_sd == pytest.approx(null.std(ddof=0), rel=1e-5)
        assert row.p_value_model == pytest.approx((1 + (null <= row.delta).sum()) / 21)
        assert 1 / 21 <= row.p_value <= 1
        cells = mdata["atac"].obs_names.get_indexer(
            result["cells"].query("gene == @gene and group == @group")["cell"]
        )
        drop = log_prediction(explained, gene, cells) - log_prediction(
            explained, gene, cells, peaks
        )
        counts = mdata["rna"].X[cells].toarray()
        share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        observed = np.log1p(1e4 * share[:, mdata["rna"].var_names.get_loc(gene)])
        expected = np.corrcoef(drop, observed)[0, 1]
        assert row.association == pytest.approx(expected, abs=1e-3)
        assert row.cis_share == pytest.approx(
            cis_drop(explained, gene, cells, peaks).mean() / drop.mean(), abs=1e-3
        )


def cis_drop(model, gene, cells, peaks):
    """Change of the cis term alone, from its weights."""
    term, mdata = model.module.cis, model.adata
    g = mdata["rna"].var_names.get_loc(gene)
    weight = np.zeros(mdata["atac"].n_vars)
    own = (term.gene == g).numpy()
    weight[term.peak.numpy()[own]] = term.weights().detach().numpy()[own]
    x = (mdata["atac"].X[cells] > 0).toarray().astype(float)
    keep = ~mdata["atac"].var_names.isin(peaks)
    with torch.no_grad():
        before, after = (term.from_sums(torch.tensor(v @ weight), g).numpy() for v in (x, x * keep))
    return before - after


def test_round_trip_and_every_plot(explained, result, tmp_path):
    explained.adata.write_h5mu(tmp_path / "explained.h5mu")
    reread = md.read_h5mu(tmp_path / "explained.h5mu")
    assert_same(result, reread["atac"].uns[KEY])
    assert (reread["atac"].varm[KEY] != explained.adata["atac"].varm[KEY]).nnz == 0
    for data in (reread, reread["atac"]):
        assert isinstance(data, md.MuData | AnnData)
        lv.pl.subset_effects(data, GENES[0], groups="type_1", show=False).figure.canvas.draw()
        lv.pl.subset_before_after(data, GENES[0], groups="type_1", show=False).figure.canvas.draw()
        lv.pl.locus(data, GENES[0], groups="type_1", show=False).figure.canvas.draw()
        lv.pl.subset_summary(data, show=False).figure.canvas.draw()
    lv.explain.cross_effect(explained)
    lv.explain.cross_effect(explained, adata=reread)
    table = lv.get.cross_effect(explained.adata)
    pd.testing.assert_frame_equal(lv.get.cross_effect(reread), table)
    lv.pl.cross_effect(reread, show=False).figure.canvas.draw()


def test_cross_effect(explained, result, expression):
    lv.explain.cross_effect(explained)
    table = lv.get.cross_effect(explained.adata)
    assert list(table.columns) == GROUPS
    assert list(table.index) == [f"{gene} | {group}" for group in GROUPS for gene in GENES]
    for row in result["sets"].itertuples():
        own = table.loc[f"{row.gene} | {row.group}", row.group]
        assert own == pytest.approx(row.rel_delta, rel=1e-5)
    peaks = members(result)[GENES[1], "type_0"]
    in_group = np.flatnonzero(explained.adata["atac"].obs["cell_type"] == "type_2")
    cells = np.intersect1d(in_group, explained.test_indices)
    before, after = (expression(explained, GENES[1], cells, p) for p in ([], peaks))
    expected = (after.mean() - before.mean()) / before.mean()
    assert table.loc[f"{GENES[1]} | type_0", "type_2"] == pytest.approx(expected, rel=1e-3)
    lv.explain.cross_effect(explained, relative=False, key_added="change")
    change = lv.get.cross_effect(explained.adata, key="change")
    expected = after.mean() - before.mean()
    assert change.loc[f"{GENES[1]} | type_0", "type_2"] == pytest.approx(expected, rel=1e-3)


def test_search_sees_training_cells_only(model, log_prediction):
    """Test cells decide nothing: the set stays the same when their peaks change."""
    first = members(explain(model, n_features=3))
    x = model.adata["atac"].X.tolil()
    x[model.test_indices] = 0
    model.adata["atac"].X = x.tocsr()
    assert members(explain(model, n_features=3, overwrite=True)) == first


def test_best_of_a_small_problem(model, expression):
    """Among all pairs of eight peaks, the pair with the lowest expression of the training cells."""
    x = (model.adata["atac"].X > 0)[model.train_indices]
    peaks = model.adata["atac"].var_names[np.argsort(-x.mean(0).A1)[:8]]
    found = explain(model, n_features=2, beta=0, feature_mask=list(peaks))
    log = {
        (a, b): model.translate(
            masked(model.adata, [a, b]), features=["gene_0001"], indices=model.train_indices,
            clamp=False, return_numpy=True,
        ).mean()
        for i, a in enumerate(peaks)
        for b in peaks[i + 1 :]
    }  # fmt: skip
    assert set(found["features"]["feature"]) == set(min(log, key=log.get))


def masked(mdata, peaks):
    out = mdata.copy()
    keep = ~out["atac"].var_names.isin(peaks)
    out["atac"].X = out["atac"].X.multiply(keep.astype(np.float32)).tocsr()
    return out


# ---- calls that go on ----------------------------------------------------------------------------


def test_finished_pairs_are_skipped(model, count_searches):
    explain(model, "gene_0001", groupby="cell_type", groups=["type_0", "type_1"], n_features=2)
    first = model.adata["atac"].uns[KEY]
    assert len(count_searches) == 2
    both = explain(model, GENES, groupby="cell_type", groups=["type_1", "type_2"], n_features=2)
    assert len(count_searches) == 5
    assert list(members(both))[:2] == [("gene_0001", "type_0"), ("gene_0001", "type_1")]
    assert len(both["sets"]) == 5
    for table in ("sets", "features", "cells", "null"):
        kept = both[table].iloc[: len(first[table])]
        pd.testing.assert_frame_equal(kept, first[table])
    explain(model, GENES, groupby="cell_type", groups=["type_1", "type_2"], n_features=2)
    assert len(count_searches) == 5
    assert model.adata["atac"].varm[KEY].shape[1] == 5
    again = explain(model, groupby="cell_type", n_features=2, overwrite=True)
    assert len(count_searches) == 8  # the three of this gene
    for table in ("sets", "features", "cells", "null"):
        pd.testing.assert_frame_equal(again[table], both[table])


def test_results_of_another_model_are_not_its_own(model, train, simulate):
    """Same arguments, same data, other weights."""
    explain(model, n_features=2)
    other = train(model.adata, 3, seed=1)
    with pytest.raises(ValueError, match=r"other arguments \(model\)"):
        explain(other, n_features=2)
    explain(other, n_features=2, overwrite=True)
    explain(other, n_features=2)


def test_a_window_of_nothing_is_a_window(model):
    explain(model, n_features=2)
    with pytest.raises(ValueError, match="peaks can be selected|other arguments"):
        explain(model, n_features=2, window=0)


def test_finished_pairs_are_skipped_after_reading(model, count_searches, tmp_path):
    options = {"groupby": "cell_type", "groups": ["type_0"], "n_features": 2, "window": 10**7}
    explain(model, "gene_0001", **options)
    model.save(tmp_path / "model", save_anndata=True)
    reread = lv.model.GRIDS.load(tmp_path / "model", accelerator="cpu")
    both = explain(reread, GENES, **options)
    assert len(count_searches) == 2
    whole = explain(model, GENES, **options)
    assert_same(both, whole)


@pytest.mark.parametrize(
    "other",
    [
        {"n_features": 3},
        {"beta": 0.0},
        {"direction": "up"},
        {"groupby": None},
        {"window": 10**6},
        {"seed": None},
        {"feature_mask": "mask"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_other_arguments_need_another_key(model, other):
    atac = model.adata["atac"]
    atac.var["mask"] = np.arange(atac.n_vars) % 2 == 0
    options = {"groupby": "cell_type", "groups": "type_0", "n_features": 2}
    one = explain(model, **options)
    changed = options | other | ({"groups": None} if "groupby" in other else {})
    with pytest.raises(ValueError, match="holds results of other arguments.*key_added.*overwrite"):
        explain(model, **changed)
    assert model.adata["atac"].uns[KEY] is one
    explain(model, key_added="second", **changed)
    with pytest.raises(ValueError, match="'second' holds results of other arguments"):
        explain(model, key_added="second", **options)
    assert {KEY, "second"} <= set(atac.varm)
    explain(model, overwrite=True, **changed)


def test_masks_of_equal_size_differ(model):
    half = np.arange(300) < 150
    explain(model, n_features=2, feature_mask=half)
    explain(model, n_features=2, feature_mask=list(model.adata["atac"].var_names[:150]))
    with pytest.raises(ValueError, match="other arguments"):
        explain(model, n_features=2, feature_mask=~half)


def test_interruption_keeps_finished_pairs(model, monkeypatch):
    original, calls = _found.search, []

    def interrupted(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    monkeypatch.setattr(_found, "search", interrupted)
    with pytest.raises(KeyboardInterrupt):
        explain(model, groupby="cell_type", n_features=2)
    assert list(members(model.adata["atac"].uns[KEY])) == [("gene_0001", "type_0")]
    result = explain(model, groupby="cell_type", n_features=2)
    assert len(calls) == 4  # the interrupted pair and the last one
    monkeypatch.undo()
    assert_same(result, explain(model, groupby="cell_type", n_features=2, overwrite=True))


def test_interruption_before_anything_is_finished(model, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(_found, "search", interrupted)
    with pytest.raises(KeyboardInterrupt):
        explain(model, n_features=2)
    assert KEY not in model.adata["atac"].uns


def test_copy(model):
    options = {"n_features": 2, "n_null": 5, "progress": False}
    out = lv.explain.subset_perturbation(model, "gene_0001", copy=True, **options)
    assert isinstance(out, md.MuData)
    assert KEY not in model.adata["atac"].uns
    assert KEY not in model.adata["atac"].varm
    assert lv.explain.subset_perturbation(model, "gene_0001", **options) is None
    assert_same(out["atac"].uns[KEY], model.adata["atac"].uns[KEY])
    more = lv.explain.subset_perturbation(model, "gene_0002", copy=True, **options)
    assert len(more["atac"].uns[KEY]["sets"]) == 2
    assert len(model.adata["atac"].uns[KEY]["sets"]) == 1


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_pairs_in_parallel(model, explained, backend):
    options = {"groupby": "cell_type", "n_features": 4, "n_null": 20}
    with joblib.parallel_config(backend=backend):
        explain(model, GENES, n_jobs=2, **options)
    assert_same(model.adata["atac"].uns[KEY], explain(explained, GENES, **options))


def test_pairs_do_not_depend_on_each_other(model, result):
    options = {"groupby": "cell_type", "n_features": 4, "n_null": 20}
    alone = explain(model, GENES[1], groups="type_2", **options)
    for table in ("sets", "features", "cells", "null"):
        part = result[table].query("gene == @GENES[1] and group == 'type_2'")
        pd.testing.assert_frame_equal(alone[table], part.set_axis(alone[table].index))


# ---- options -------------------------------------------------------------------------------------


def test_up_opens_peaks(model, expression):
    up = explain(model, n_features=3, direction="up")
    row, peaks = up["sets"].iloc[0], up["features"]["feature"]
    cells = np.sort(model.test_indices)
    before, after = (expression(model, "gene_0001", cells, p, 1.0) for p in ([], peaks))
    assert row["delta"] == pytest.approx((after - before).mean(), rel=1e-4)
    assert row["delta"] > 0
    total = up["features"]["single_effect"].sum()
    assert row["redundancy"] == pytest.approx(row["delta"] - total, rel=1e-4, abs=1e-5)
    assert np.isnan(row["p_value_model"]) and row["n_null_distinct"] == 5
    lv.explain.cross_effect(model)
    table = lv.get.cross_effect(model.adata)
    assert table.loc["gene_0001 | all", "all"] == pytest.approx(row["rel_delta"], rel=1e-5)


def test_window(model):
    features = explain(model, n_features=3, window=20_000)["features"]
    assert features["distance"].abs().max() <= 20_000  # from the TSS, as of the cis term
    cis, gene = model.module.cis, model.adata["rna"].var_names.get_loc("gene_0001")
    near = model.adata["atac"].var_names[cis.peak[cis.gene == gene].numpy()]
    whole = explain(model, n_features=3, window=100_000, key_added="whole")["features"]["feature"]
    assert set(whole) <= set(near)


def test_feature_mask(model):
    atac = model.adata["atac"]
    allowed = atac.var_names[::7]
    mask = atac.var_names.isin(allowed)
    atac.var["allowed"] = mask
    atac.var["as_numbers"] = mask.astype(int)
    results = [
        explain(model, n_features=4, feature_mask=given, overwrite=True)["features"]
        for given in (allowed, list(allowed), mask, pd.Series(mask), "allowed", "as_numbers")
    ]
    assert set(results[0]["feature"]) <= set(allowed)
    for other in results[1:]:
        pd.testing.assert_frame_equal(other, results[0])


def test_p_values_of_few_different_random_sets(model):
    """One and the same random set tells nothing of chance, and ties are no evidence."""
    names = model.adata["atac"].var_names[:3]
    row = explain(model, n_features=3, n_null=30, feature_mask=names)["sets"].iloc[0]
    assert row["n_null_distinct"] == 0 and np.isnan(row[["p_value", "p_value_model", "q_value"]].astype(float)).all()  # fmt: skip
    names = model.adata["atac"].var_names[np.asarray(model.adata["atac"].X.mean(0)).ravel() > 0][:7]
    row = explain(model, n_features=3, n_null=60, feature_mask=names, key_added="seven")[
        "sets"
    ].iloc[0]
    assert row["n_null_distinct"] == 34  # 35 sets, of which one is the set itself
    assert 0 < row["p_value_model"] <= 1


def test_prediction_and_measurement(model):
    """Counts as predicted and as measured in the same cells, and a bootstrap interval of the change."""
    result = explain(model, list(model.adata["rna"].var_names[:5]), n_features=3, n_null=20)
    sets, cells = result["sets"], result["cells"]
    rna = model.adata["rna"].X.toarray()
    per_10k = rna / np.maximum(rna.sum(1, keepdims=True), 1) * 1e4
    for row in sets.itertuples():
        own = cells[cells["gene"] == row.gene]
        at = model.adata["rna"].obs_names.get_indexer(own["cell"])
        measured = per_10k[at, model.adata["rna"].var_names.get_loc(row.gene)].mean()
        assert row.expression_measured == pytest.approx(measured, rel=1e-4)
        assert row.reliable == (measured / 2 <= row.expression_before <= 2 * measured)
        change = own["after"] - own["before"]
        # over cells, as two batches are too few
        assert row.delta_se == pytest.approx(change.std() / np.sqrt(len(change)), rel=0.15)
        assert row.delta_low <= row.delta <= row.delta_high
    from scipy.stats import false_discovery_control

    np.testing.assert_allclose(sets["q_value"], false_discovery_control(sets["p_value"]))


def test_sets_far_from_the_measurement_are_named(model, monkeypatch):
    function = type(lv.adapters.adapter(model))
    right = function.observed
    monkeypatch.setattr(function, "observed", lambda *a: np.log1p(np.expm1(right(*a)) * 5))
    with pytest.warns(UserWarning, match="1 of 1 sets are not reliable.*gene_0001"):
        row = explain(model, n_features=2, key_added="far")["sets"].iloc[0]
    assert not row["reliable"]


@pytest.mark.parametrize(
    "kind", ["category", "nullable", "object", "0 and 1", "Series in another order"]
)
def test_feature_mask_of_any_kind(model, kind):
    atac = model.adata["atac"]
    truth = pd.Series(np.arange(atac.n_vars) % 9 == 0, atac.var_names)
    given = {
        "category": truth.astype("category"),
        "nullable": truth.astype("boolean"),
        "object": truth.astype(object),
        "0 and 1": truth.astype(float),
    }.get(kind)
    if given is None:
        mask = truth[::-1]
    else:
        atac.var["mask"], mask = given, "mask"
    found = explain(model, n_features=4, feature_mask=mask, overwrite=True)["features"]["feature"]
    assert truth[found].all()


@pytest.mark.parametrize(
    "values",
    [
        ["promoter", "other"],
        ["True", "False"],
        [1.0, np.nan],
        [True, None],
        [0.5, 0.0],
        ["True", "maybe"],
    ],
)
def test_feature_mask_that_is_neither_true_nor_false(model, values):
    atac = model.adata["atac"]
    atac.var["mask"] = pd.Series(
        np.resize(np.array(values, dtype=object), atac.n_vars), atac.var_names
    )
    with pytest.raises(ValueError, match="feature_mask"):
        explain(model, n_features=2, feature_mask="mask", key_added="other")
    partial = pd.Series(True, atac.var_names[1:])
    with pytest.raises(ValueError, match="says nothing of 1 of"):
        explain(model, n_features=2, feature_mask=partial, key_added="other")


def test_min_openness(model):
    strict = explain(model, n_features=4, min_openness=0.1)
    assert strict["features"]["openness"].min() >= 0.1
    free = explain(model, n_features=4, overwrite=True)
    assert (free["features"]["openness"] > 0).all()


def test_groups(model):
    pairs = {"type_1": ["gene_0002"], "type_0": "gene_0001"}
    by_dict = explain(model, GENES, groupby="cell_type", groups=pairs, n_features=2)
    assert list(members(by_dict)) == [("gene_0002", "type_1"), ("gene_0001", "type_0")]
    one = explain(model, groupby="cell_type", groups="type_2", n_features=2, overwrite=True)
    assert list(members(one)) == [*members(by_dict), ("gene_0001", "type_2")]
    everything = explain(model, n_features=2, overwrite=True)
    assert list(members(everything)) == [("gene_0001", "all")]
    assert "groupby" not in everything["params"]
    twice = explain(model, ["gene_0001"] * 2, n_features=2, overwrite=True)
    assert len(twice["sets"]) == 1


def test_groups_that_are_no_text(model):
    for part in (model.adata, model.adata["atac"]):
        part.obs["cluster"] = np.arange(400) % 2
    sets = explain(model, groupby="cluster", groups=[1], n_features=2)["sets"]
    assert sets["group"].tolist() == ["1"]


def test_search_options(model):
    reference = explain(model, n_features=3)["sets"]["delta"].item()
    ways = [{"method": "beam"}, {"start": "random"}, {"n_restarts": 2}, {"n_candidates": 300}]
    for way in ways:
        result = explain(model, n_features=3, overwrite=True, **way)
        assert result["sets"]["delta"].item() == pytest.approx(reference, rel=0.3)
        assert result["params"].items() >= way.items()


def test_without_random_sets(model):
    result = explain(model, n_features=2, n_null=0)
    assert len(result["null"]) == 0
    assert result["sets"][["null_mean", "null_sd", "p_value", "p_value_model"]].isna().all(None)


def test_all_eligible_peaks(model):
    peaks = list(model.adata["atac"].var_names[:3])
    features = explain(model, n_features=3, feature_mask=peaks)["features"]
    assert set(features["feature"]) == set(peaks)


def test_model_without_cis_term(train, simulate):
    model = train(simulate(), 3, model={"cis_window": None})
    result = explain(model, n_features=2)
    assert result["sets"]["cis_share"].item() == 0
    assert result["params"]["beta"] == 0.1  # as in the paper; 100 with a cis term


@pytest.mark.parametrize("options", [{"window": 100_000}, {"through": "cis"}, {"beta": 0.1}])
def test_other_genes_weigh_little_near_the_gene(train, simulate, options):
    model = train(simulate(), 3)
    assert explain(model, n_features=2, **options)["params"]["beta"] == 0.1


def test_genes_without_coordinates(train, simulate):
    mdata = simulate()
    mdata["rna"].var = mdata["rna"].var[[]]
    model = train(mdata, 3, model={"cis_window": None})
    assert explain(model, n_features=2)["features"]["distance"].isna().all()
    with pytest.raises(KeyError, match="no coordinates"):
        explain(model, n_features=2, window=1000, overwrite=True)


def test_unpaired_cells(train, simulate):
    mdata = simulate()
    parts = {"rna": mdata["rna"][:200].copy(), "atac": mdata["atac"][200:].copy()}
    model = train(md.MuData(parts), 4)
    row = explain(model, groupby="cell_type", groups="type_0", n_features=2, n_null=20)[
        "sets"
    ].iloc[0]
    assert row["delta"] < 0
    assert np.isnan(row["p_value"]) and np.isnan(row["expression_measured"]) and pd.isna(row["reliable"])  # fmt: skip
    assert np.isnan(row["association"])
    assert row["p_value_model"] > 0


# ---- truth ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def converged(train, simulate):
    """1,500 cells of one batch, 12 genes, 3 of each logic; trained until it stops."""
    mdata = simulate(
        n_cells=1500, n_genes=12, n_peaks=600, n_types=4, n_batches=1, n_chromosomes=8, seed=1
    )
    setup = {"labels_key": "cell_type"}
    model = train(mdata, 80, setup=setup, model={"n_hidden": 128}, batch_size=128)
    lv.explain.subset_perturbation(
        model, list(mdata["rna"].var_names), n_features=3, n_null=60, progress=False
    )
    return model


def test_planted_sets_are_found(converged):
    truth = converged.adata.uns["truth"].query("logic != 'none'")
    planted = truth.groupby("gene")["peak"].agg(set)
    found = members(converged.adata["atac"].uns[KEY])
    precision = {g: len(planted[g] & set(found[g, "all"])) / 3 for g in planted.index}
    print(f"precision at 3: {np.mean(list(precision.values())):.2f}")
    assert np.mean(list(precision.values())) >= 0.9


def test_p_values(converged):
    """Small where peaks regulate the gene; anything where none does."""
    sets = converged.adata["atac"].uns[KEY]["sets"].set_index("gene")
    logic = converged.adata.uns["truth"].groupby("gene")["logic"].first()
    p_value = sets["p_value"]
    assert (p_value[logic[logic != "none"].index] < 0.05).all()
    assert p_value[logic[logic == "none"].index].max() > 0.1
