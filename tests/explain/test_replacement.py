"""Partial knock-downs, and features that become something else than 0."""

from itertools import combinations

import mudata as md
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

import lucidvi as lv
from lucidvi.adapters import adapter
from lucidvi.algorithms._subset_problem import Replacement
from lucidvi.explain.subset._pairs import _changeable
from lucidvi.explain.subset._population import Population

KEY, GENE = "subset_perturbation", "gene_0002"


@pytest.fixture
def explain(trained):
    def call(model=trained, target=GENE, *args, **options):
        lv.explain.subset_perturbation(model, target, *args, **{"n_null": 0, "progress": False, "overwrite": True} | options)  # fmt: skip
        return lv.get.subset_sets(model.adata).iloc[0], lv.get.subset_features(model.adata)

    yield call
    for slot in ("uns", "varm"):
        for key in (KEY, "cross_effect", "set_interactions"):
            getattr(trained.adata["atac"], slot).pop(key, None)


def counts(model, cells, members, change):
    """Mean prediction of the gene in some cells whose accessibility is changed by hand."""
    population = Population(adapter(model), "expression")
    column = population.targets.get_loc(GENE)
    x = population.x[cells].toarray()
    at = population.features.get_indexer(members)
    x[:, at] = change(x[:, at])
    h = population.cut.affine.apply(sp.csr_matrix(x, dtype=np.float32))  # fmt: skip
    y = population.outputs(cells)(h, torch.arange(len(cells)))[:, column]
    return float(population.reported(y, column).mean())


def group_mean(model, group, members):
    labels = model.adata.obs["cell_type"].astype(str).to_numpy()
    cells = np.intersect1d(np.flatnonzero(labels == group), adapter(model).train_cells)
    return (model.adata["atac"].to_df()[members].to_numpy()[cells] > 0).mean(0)


@pytest.mark.parametrize(
    ("options", "change"),
    [
        ({"strength": 0.5}, lambda x, m, model: 0.5 * x),
        ({"replacement": 0.3}, lambda x, m, model: 0 * x + 0.3),
        ({"replacement": 0.3, "strength": 0.25}, lambda x, m, model: 0.75 * x + 0.075),
        ({"replacement": "type_2"}, lambda x, m, model: 0 * x + group_mean(model, "type_2", m)),
        ({"direction": "up", "strength": 0.5}, lambda x, m, model: 0.5 * x + 0.5),
    ],
)
def test_effects_equal_those_of_changed_values(trained, explain, options, change):
    trained.adata["atac"].X.data[:] = 1.0
    row, members = explain(trained, GENE, "cell_type", ["type_1"], 3, **options)
    names = members["feature"].tolist()
    labels = trained.adata.obs["cell_type"].astype(str).to_numpy()
    cells = np.intersect1d(np.flatnonzero(labels == "type_1"), adapter(trained).held_out_cells)
    after = counts(trained, cells, names, lambda x: change(x, names, trained))
    assert row["expression_after"] == pytest.approx(after, rel=1e-4)
    for name, effect in zip(names, members["single_effect"], strict=True):
        alone = counts(trained, cells, [name], lambda x, name=name: change(x, [name], trained))
        assert effect == pytest.approx(alone - row["expression_before"], abs=1e-3 * abs(row["delta"]) + 1e-3)  # fmt: skip
    # those who evaluate the set again change the same
    lv.explain.cross_effect(trained, relative=False)
    table = trained.adata["atac"].uns["cross_effect"]["effects"]
    own = table[table["in_group"] == "type_1"]["effect"].iloc[0]
    assert own == pytest.approx(row["delta"], rel=1e-5)
    lv.explain.set_interactions(trained, progress=False)
    assert lv.get.set_interactions(trained.adata, table="sets")["effect"].iloc[0] == pytest.approx(row["delta"], rel=1e-5)  # fmt: skip


@pytest.mark.parametrize("options", [{"strength": 0.5}, {"replacement": 0.4, "strength": 0.5}, {"replacement": "type_0"}])  # fmt: skip
def test_the_set_is_the_best_of_all(trained, explain, options):
    peaks = trained.get_cis_links(genes=[GENE])["peak"].tolist()[:8]
    groups = ["cell_type", ["type_1"]] if "type_0" in options.values() else []
    _, members = explain(trained, GENE, *groups, n_features=2, feature_mask=peaks, beta=0.0, **options)  # fmt: skip
    # the smallest loss of the problem itself, found by trying all
    function = adapter(trained)
    population = Population(function, "expression")
    value = options.get("replacement", 0.0)
    group = members["group"].iloc[0]
    labels = trained.adata.obs["cell_type"].astype(str).to_numpy()
    cells = function.train_cells if group == "all" else np.intersect1d(np.flatnonzero(labels == group), function.train_cells)  # fmt: skip
    if isinstance(value, str):
        value = np.zeros(len(population.features), np.float32)
        value[population.features.get_indexer(peaks)] = group_mean(trained, "type_0", peaks)
    problem = population.search_problem(cells, population.targets.get_loc(GENE), sign=1.0, beta=0.0, replacement=Replacement(value, options.get("strength", 1.0)))  # fmt: skip
    at = population.features.get_indexer(peaks)
    best = min(problem.subset(pair).loss for pair in combinations(at, 2))
    found = problem.subset(population.features.get_indexer(members["feature"])).loss
    assert found == pytest.approx(best, rel=1e-5)


def test_values_by_name_and_by_position_are_the_same(trained, explain):
    names = trained.adata["atac"].var_names
    peaks = trained.get_cis_links(genes=[GENE])["peak"].tolist()[:6]
    values = dict(zip(peaks, np.linspace(0, 0.5, 6), strict=True))
    by_name, members = explain(trained, GENE, n_features=3, replacement=values)
    assert set(members["feature"]) <= set(peaks)
    np.testing.assert_allclose(members["replacement"], members["feature"].map(values), atol=1e-6)
    array = np.full(len(names), np.nan)
    array[names.get_indexer(peaks)] = list(values.values())
    by_place, again = explain(trained, GENE, n_features=3, replacement=array)
    assert again["feature"].tolist() == members["feature"].tolist()
    assert by_place["delta"] == by_name["delta"]
    with pytest.raises(ValueError, match=r"other arguments \(replacement\)"):
        explain(trained, GENE, n_features=3, replacement=array / 2, overwrite=False)


def test_features_that_already_are_what_they_become_cannot_be_chosen():
    x = sp.csr_matrix(np.array([[1, 0, 1, 2], [1, 0, 0, 2]], np.float32))
    for value, expected in ((0.0, [1, 0, 1, 1]), (1.0, [0, 1, 1, 1]), (2.0, [1, 1, 1, 0]), (0.5, [1] * 4)):  # fmt: skip
        assert _changeable(x, Replacement(value)).tolist() == list(map(bool, expected))
    assert _changeable(x, Replacement(np.array([1, 0, 0, 1.0]))).tolist() == [False, False, True, True]  # fmt: skip


def test_round_trip(trained, explain, tmp_path):
    row, _ = explain(trained, GENE, "cell_type", ["type_1"], 2, replacement="type_2", strength=0.5)
    trained.adata.write_h5mu(tmp_path / "x.h5mu")
    back = md.read_h5mu(tmp_path / "x.h5mu")
    assert back["atac"].uns[KEY]["params"]["strength"] == 0.5
    lv.explain.cross_effect(trained, adata=back, relative=False)
    table = back["atac"].uns["cross_effect"]["effects"]
    assert table[table["in_group"] == "type_1"]["effect"].iloc[0] == pytest.approx(row["delta"], rel=1e-5)  # fmt: skip


def test_counts_of_other_models(fitted, explain, mean_only):
    """scvi-tools' own method on a changed copy of the data."""
    model = fitted("SCVI")
    genes = model.adata.var_names[3:8]
    lv.explain.subset_perturbation(model, {"latent": [0]}, n_features=2, strength=0.5, feature_mask=list(genes), n_null=0, progress=False, overwrite=True)  # fmt: skip
    try:
        members = lv.get.subset_features(model.adata)["feature"]
        cells = adapter(model).held_out_cells
        changed = model.adata.copy()
        x = changed.X.toarray().astype(np.float32)
        x[:, changed.var_names.get_indexer(members)] *= 0.5
        changed.X = x
        before, after = (model.get_latent_representation(a)[cells, 0].mean() for a in (model.adata, changed))  # fmt: skip
        assert lv.get.subset_sets(model.adata)["delta"].iloc[0] == pytest.approx(after - before, abs=1e-5)  # fmt: skip
    finally:
        for slot in ("uns", "varm"):
            getattr(model.adata, slot).pop(KEY, None)


def test_measured_interactions_do_not_depend_on_the_strength(trained, explain):
    peaks = trained.get_cis_links(genes=[GENE])["peak"].tolist()[:3]
    found = []
    for strength in (1.0, 0.5):
        explain(trained, GENE, n_features=3, feature_mask=peaks, strength=strength)
        lv.explain.set_interactions(trained, progress=False)
        table = lv.get.set_interactions(trained.adata)
        key = [tuple(sorted(pair)) for pair in zip(table["feature_1"], table["feature_2"], strict=True)]  # fmt: skip
        found.append(pd.Series(table["interaction"].to_numpy(), key).sort_index())
    pd.testing.assert_series_equal(*found, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"strength": 0.0}, ValueError, "strength=0.0 must be above 0 and at most 1"),
        ({"strength": 2}, ValueError, "strength=2 must be"),
        ({"strength": "half"}, TypeError, "strength='half'"),
        ({"replacement": "type_9"}, ValueError, "Replacement group 'type_9' is unknown"),
        ({"replacement": -1.0}, ValueError, "replacement=-1.0 must be at least 0"),
        ({"replacement": {"peak": 1.0}}, ValueError, "Replacement feature 'peak' is unknown"),
        ({"replacement": 5}, ValueError, "reads peaks as open"),
        ({"replacement": np.ones(3)}, ValueError, "replacement has shape"),
        ({"replacement": np.full(300, np.inf)}, ValueError, "finite values"),
        ({"replacement": np.full(300, "a")}, TypeError, "no numbers"),
    ],
)
def test_bad_input(trained, explain, options, error, message):
    trained.adata["atac"].X.data[:] = 1.0
    with pytest.raises(error, match=message):
        explain(n_features=2, **options)
