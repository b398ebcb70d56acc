"""Panels of halves of the cells: which genes come again."""

import anndata as ad
import numpy as np
import pytest
import scvi

import lucidvi as lv
from lucidvi.adapters import adapter
from lucidvi.explain._cells import donors_of_cells, labels_of_cells
from lucidvi.explain.panel._halves import Halves, consistency
from lucidvi.explain.panel._problem import prepare

QUIET = {"enable_progress_bar": False, "logger": None, "accelerator": "cpu"}
GROUPS = ["a", "b", "c"]


@pytest.fixture(scope="module")
def model():
    """Ten clear markers of group a, none of b and c, which differ in nothing; six donors."""
    rng = np.random.default_rng(0)
    group = np.repeat(GROUPS, 120)
    x = rng.standard_normal((360, 60)).astype(np.float32)
    x[group == "a", :10] += 3
    adata = ad.AnnData(x)
    adata.var_names = [f"g{i}" for i in range(60)]
    adata.obs["group"], adata.obs["donor"] = group, rng.choice(list("uvwxyz"), 360)
    scvi.settings.seed = 0
    lv.model.ACE.setup_anndata(adata, labels_key="group")
    model = lv.model.ACE(adata, n_latent=4, hidden=(32, 16))
    model.train(40, **QUIET)
    return model


def panels(model, **options):
    call = {"progress": False, "copy": True, "n_genes": 10, "flip_rate": 0.01}
    return lv.explain.gene_panel(model, "group", **call | options).uns["gene_panel"]


def test_clear_markers_come_again_and_chance_does_not(model):
    found = panels(model, n_bootstrap=6, penalty="equal")
    stability = found["panels"].set_index("group")["stability"]
    assert stability["a"] > 0.9
    assert stability[["b", "c"]].max() < 0.7
    frequency = dict(zip(found["names"]["a"], found["selection_frequency"]["a"], strict=True))
    assert all(frequency[f"g{i}"] > 0.8 for i in range(10))
    assert np.allclose(np.array(list(frequency.values())) * 6 % 1, 0)
    assert "stability" not in panels(model)["panels"] and "stability" not in panels(model, n_bootstrap=1)["panels"]  # fmt: skip


def test_groups_do_not_depend_on_others_asked_for(model):
    one = panels(model, groups="b", n_bootstrap=2)
    all_ = panels(model, n_bootstrap=2)
    assert one["panels"]["stability"][0] == all_["panels"].set_index("group")["stability"]["b"]
    assert (one["selection_frequency"]["b"] == all_["selection_frequency"]["b"]).all()


@pytest.mark.parametrize("donor_key", [None, "donor"])
def test_halves_share_nothing(model, donor_key):
    function = adapter(model)
    labels, donors = labels_of_cells(function, "group"), donors_of_cells(function, donor_key)
    given = prepare(function, labels, "group", 0, None, donors)
    halves = Halves(given, 0, None, donors)
    for i in (0, 2):
        one, two = halves.half(i).train, halves.half(i + 1).train
        for group in GROUPS:
            assert sorted([*one[group], *two[group]]) == sorted(given.train[group])
            if donors is not None:
                assert 0.2 < len(one[group]) / len(given.train[group]) < 0.8
                assert not set(donors.iloc[one[group]]) & set(donors.iloc[two[group]])
            assert halves.divides(group, i)
    assert sorted(halves.half(0).train["a"]) != sorted(halves.half(2).train["a"])
    assert not np.allclose(halves.half(0).mean, given.mean)


def test_a_half_that_lacks_a_group_takes_all_its_cells(model):
    model.adata.obs["clone"] = np.where(model.adata.obs["group"] == "a", "u", model.adata.obs["donor"])  # fmt: skip
    found = panels(model, n_bootstrap=2, donor_key="clone")
    stability = found["panels"].set_index("group")["stability"]
    assert np.isnan(stability["a"]) and stability[["b", "c"]].notna().all()


def test_consistency():
    names = [f"g{i}" for i in range(20)]
    one, two = np.arange(20) < 5, (np.arange(20) >= 2) & (np.arange(20) < 7)
    ranked = [{"x": [n for n, m in zip(names, mask, strict=True) if m]} for mask in (one, two)]
    assert consistency(one, two, 20) == pytest.approx(
        lv.metrics.panel_stability(ranked, 5, 20)["x"]
    )
    assert consistency(one, one, 20) == 1 and np.isnan(consistency(one, one, 5))
