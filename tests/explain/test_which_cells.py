"""Which cells, and how many of each, an explanation counts: mistakes here change numbers and nothing else."""

import numpy as np
import pandas as pd
import pytest
import scvi
import torch

import lucidvi as lv
from lucidvi.adapters import adapter
from lucidvi.explain._cells import labels_of_cells, reference_cells
from lucidvi.explain.panel._problem import prepare
from lucidvi.explain.subset._population import Population
from lucidvi.explain.subset._report import Evaluator

QUIET = {"enable_progress_bar": False, "logger": None, "accelerator": "cpu"}


@pytest.fixture(scope="module")
def ace():
    scvi.settings.seed = 0
    data = lv.datasets.ace_simulation(n_cells=400, n_dependent=20, n_noise=20)
    lv.model.ACE.setup_anndata(data, labels_key="group")
    model = lv.model.ACE(data, n_latent=4, hidden=(32, 16))
    model.train(10, train_size=0.6, **QUIET)
    group = data.obs["group"].astype(str).to_numpy().copy()
    own = np.flatnonzero(group == "group_0")
    group[own[: len(own) * 2 // 3]] = "group_1"
    data.obs["unequal"] = pd.Categorical(group)
    return model


def test_the_rest_is_weighted_by_its_cells(ace):
    function = adapter(ace)
    labels = labels_of_cells(function, "unequal")
    given = prepare(function, labels, "unequal", 0)
    others = [g for g in given.groups if g != "group_4"]
    cells = labels.value_counts()[others]
    assert cells.max() > 2 * cells.min()
    means = torch.stack([given.mean[given.groups.index(g)] for g in others])
    share = torch.tensor((cells / cells.sum()).to_numpy()).float()
    torch.testing.assert_close(
        given.reference_mean("group_4", "rest"), share @ means, rtol=1e-4, atol=1e-4
    )


def test_units_are_deviations_over_all_training_cells(ace):
    function = adapter(ace)
    given = prepare(function, labels_of_cells(function, "unequal"), "unequal", 0)
    x = function.values(function.minibatch(np.concatenate(list(given.train.values()))))
    torch.testing.assert_close(given.std, x.std(0, correction=0), rtol=1e-3, atol=1e-4)


def test_panels_are_learned_and_reported_on_different_cells(ace):
    result = lv.explain.gene_panel(
        ace, "group", n_steps=2, n_cells=500, n_null=1, progress=False, copy=True
    )
    table = result.uns["gene_panel"]["panels"].set_index("group")
    trained = np.isin(np.arange(ace.adata.n_obs), ace.train_indices)
    for group, row in table.iterrows():
        own = (ace.adata.obs["group"] == group).to_numpy()
        assert (row["n_learned"], row["n_held_out"]) == (
            (own & trained).sum(),
            (own & ~trained).sum(),
        )


@pytest.mark.parametrize("reference", ["all", "group_1"])
def test_references_trained_the_model(ace, reference):
    function = adapter(ace)
    cells = reference_cells(function, labels_of_cells(function, "group"), reference, 10**4, 0)
    assert len(cells) and np.isin(cells, ace.train_indices).all()
    if reference != "all":
        assert (ace.adata.obs["group"].iloc[cells] == reference).all()


def test_every_label_is_tested_on_its_own_features(ace):
    target = {"label": ["group_0", "group_3"]}
    data = lv.explain.attributions(
        ace, target, n_cells=100, n_references=50, progress=False, copy=True
    )
    for slot in ("uns", "varm"):
        getattr(ace.adata, slot).update(
            {k: v for k, v in getattr(data, slot).items() if k.startswith("attributions")}
        )
    lv.explain.attribution_confidence(ace, n_features=4, n_draws=10, progress=False)
    size, tested = (ace.adata.varm[f"attributions_{k}"] for k in ("abs", "qvals"))
    top = [set(np.argsort(-size[:, k], kind="stable")[:4]) for k in range(2)]
    assert top[0] != top[1]
    assert [set(np.flatnonzero(~np.isnan(tested[:, k]))) for k in range(2)] == top


def test_association_has_a_sign(ace):
    function = adapter(ace)
    population = Population(function, "latent")
    cells = function.held_out_cells
    report = Evaluator(population, cells, 0, 0.0)
    state = report._state(list(range(10)))
    change = report.unchanged.log_expression - state.log_expression
    for sign in (1, -1):
        report.observed = sign * change
        assert report._association(state) == pytest.approx(sign)
