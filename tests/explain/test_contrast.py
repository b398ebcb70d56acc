"""Sets that act in some cells and not in others, effects by donor, and sets that several targets or groups share."""

from itertools import combinations

import mudata as md
import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp, ttest_ind

import lucidvi as lv
from lucidvi.explain.subset._contrast import by_donor, difference

KEY = "subset_perturbation"
QUIET = {"n_null": 0, "progress": False, "overwrite": True}


@pytest.fixture(scope="module")
def model(simulate, train):
    """Three types, two conditions and five donors, of which one has no treated cell."""
    mdata = simulate(n_batches=5)
    rng = np.random.default_rng(0)
    donor = mdata.obs["batch"].astype(str)
    treated = (rng.random(mdata.n_obs) < 0.5) & (donor != "batch_4")
    for part in (mdata, mdata["rna"], mdata["atac"]):
        part.obs["condition"] = pd.Categorical(np.where(treated, "treated", "control"))
    return train(mdata, setup={"labels_key": "cell_type"})


@pytest.fixture
def explain(model):
    def call(*args, **options):
        lv.explain.subset_perturbation(model, *args, **QUIET | options)
        return lv.get.subset_sets(model.adata).iloc[0], lv.get.subset_features(model.adata)

    yield call
    for slot in ("uns", "varm"):
        getattr(model.adata["atac"], slot).pop(KEY, None)


def cells_of(model, part, **where):
    """Cells of some groups and conditions that trained the model, or did not."""
    function = lv.adapters.adapter(model)
    own = np.logical_and.reduce([(model.adata.obs[k] == v).to_numpy() for k, v in where.items()])
    known = function.train_cells if part == "train" else function.held_out_cells
    return np.intersect1d(np.flatnonzero(own), known)


CONTRASTS = [
    (("type_1", "type_0"), None, {"cell_type": "type_1"}, {"cell_type": "type_0"}),
    (
        ("treated", "control"), "condition",
        {"cell_type": "type_2", "condition": "treated"}, {"cell_type": "type_2", "condition": "control"},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("contrast", "condition", "acts", "kept"), CONTRASTS)
def test_the_set_is_the_best_of_all(model, explain, log_prediction, contrast, condition, acts, kept):  # fmt: skip
    gene = "gene_0005"
    peaks = model.get_cis_links(genes=[gene])["peak"].tolist()[:9]
    groups = None if condition is None else ["type_2"]
    _, members = explain(gene, "cell_type", groups, 2, contrast=contrast, condition_key=condition, feature_mask=peaks, beta=0.0)  # fmt: skip
    own, other = cells_of(model, "train", **acts), cells_of(model, "train", **kept)
    before = [log_prediction(model, gene, c) for c in (own, other)]
    x = model.adata["atac"].to_df()
    eligible = [p for p in peaks if (x[p].to_numpy()[own] > 0).any()]

    def loss(pair):
        after = [log_prediction(model, gene, c, pair) for c in (own, other)]
        size = [max(b.mean(), 0.1) for b in before]
        return after[0].mean() / size[0] + np.abs(after[1] - before[1]).mean() / size[1]

    found = loss(members["feature"].tolist())
    assert found <= min(map(loss, map(list, combinations(eligible, 2)))) + 1e-5


@pytest.mark.parametrize(("contrast", "condition", "acts", "kept"), CONTRASTS)
def test_effects_equal_those_of_a_changed_copy(model, explain, expression, contrast, condition, acts, kept):  # fmt: skip
    gene, groups = "gene_0002", None if condition is None else ["type_2"]
    row, members = explain(gene, "cell_type", groups, 3, contrast=contrast, condition_key=condition, donor_key="batch")  # fmt: skip
    assert row["group"] == acts["cell_type"]
    donors = lv.get.subset_donors(model.adata).set_index("donor")
    sides = []
    for where in (acts, kept):
        cells = cells_of(model, "test", **where)
        before, after = (expression(model, gene, cells, peaks) for peaks in ([], members["feature"].tolist()))  # fmt: skip
        table = pd.DataFrame({"before": before, "after": after})
        means = table.groupby(model.adata.obs["batch"].to_numpy()[cells], observed=True).mean()
        sides.append((table, means["after"] / means["before"] - 1))
    other = sides[1][0].mean()
    assert row["expression_before_against"] == pytest.approx(other["before"], rel=1e-5)
    assert row["rel_delta_against"] == pytest.approx(other["after"] / other["before"] - 1, abs=1e-6)
    assert row["n_test_cells_against"] == len(sides[1][0])
    for (_, expected), column in zip(sides, ("change", "change_against"), strict=True):
        np.testing.assert_allclose(donors.loc[expected.index, column], expected, atol=1e-6)
    paired = (sides[0][1] - sides[1][1]).dropna()
    test = ttest_1samp(paired, 0).confidence_interval()
    assert [row[c] for c in ("difference", "difference_low", "difference_high")] == pytest.approx([paired.mean(), *test], abs=1e-6)  # fmt: skip
    assert donors["difference"].notna().sum() == len(paired)
    if condition:
        assert np.isnan(donors.loc["batch_4", "change"])
    assert row["delta_low"] < row["delta"] < row["delta_high"]


def test_differences_without_enough_donors_are_over_cells():
    rng = np.random.default_rng(0)
    before = rng.gamma(4, 1, (2, 400))
    sides = tuple(pd.DataFrame({"before": b, "after": b * f}) for b, f in zip(before, (0.5, rng.uniform(0.6, 1, 400)), strict=True))  # fmt: skip
    found = difference(sides, None, True, np.random.default_rng(1))
    assert found[0] == pytest.approx(-0.5 + 1 - sides[1]["after"].sum() / before[1].sum(), abs=1e-9)
    assert found[1] < found[0] < found[2] < 0
    two = tuple(by_donor(side, np.arange(400) % 2, True) for side in sides)
    assert difference(sides, two, True, np.random.default_rng(1)) == found
    assert found[3] == "cells"
    assert list(two[0]["n_cells"]) == [200, 200]
    absolute = difference(sides, None, False, np.random.default_rng(1))
    assert absolute[0] == pytest.approx((sides[0]["after"] - sides[0]["before"] - sides[1]["after"] + sides[1]["before"]).mean())  # fmt: skip


def test_donors_that_differ_between_conditions_are_compared_by_welch():
    rng = np.random.default_rng(0)
    sides = tuple(pd.DataFrame({"before": b, "after": 0.5 * b}) for b in rng.gamma(4, 1, (2, 40)))
    donors = tuple(
        pd.DataFrame({"change": values}, index=[f"{side}{i}" for i in range(len(values))])
        for side, values in (("a", [-0.5, -0.6, -0.4]), ("b", [-0.1, 0.0, -0.2, np.nan, 0.1]))
    )
    value, low, high, over = difference(sides, donors, True, rng)
    test = ttest_ind([-0.5, -0.6, -0.4], [-0.1, 0.0, -0.2, 0.1], equal_var=False)
    assert (value, over) == (pytest.approx(-0.45), "donors")
    assert (low, high) == pytest.approx(tuple(test.confidence_interval()))
    # a donor that is predicted to express nothing has no relative change
    nothing = by_donor(pd.DataFrame({"before": [0.0, 0.0, 1.0], "after": [0.01, 0.0, 0.5]}), np.array(["x", "x", "y"]), True)  # fmt: skip
    assert np.isnan(nothing.loc["x", "change"]) and nothing.loc["y", "change"] == -0.5


def test_targets_that_share_a_set_are_not_kept_as_they_are(model, explain):
    genes = ["gene_0001", "gene_0002"]
    explain(genes, "cell_type", ["type_1"], 3, shared="targets", beta=100.0)
    mild = lv.get.subset_sets(model.adata)["rel_delta_search"].to_numpy()
    explain(genes, "cell_type", ["type_1"], 3, shared="targets", beta=0.0)
    free = lv.get.subset_sets(model.adata)["rel_delta_search"].to_numpy()
    assert mild.mean() < 0.3 * free.mean() < 0


def test_what_one_target_forbids_is_not_in_a_shared_set(model, explain):
    genes = ["gene_0001", "gene_0002"]
    for options in ({"min_distance": 50_000}, {"promoter": "exclude"}):
        _, members = explain(genes, n_features=4, shared="targets", beta=0.0, n_null=20, **options)
        near = 50_000 if "min_distance" in options else 1_001
        assert members["distance"].abs().dropna().ge(near).all()
    with pytest.raises(ValueError, match="promoter='require' asks for a peak at the start of one"):
        explain(genes, n_features=2, shared="targets", promoter="require")


def test_sets_are_evaluated_again_in_the_cells_they_were_reported_on(model, explain):
    explain("gene_0001", "cell_type", ["type_1", "type_2"], 2, contrast=("treated", "control"), condition_key="condition", donor_key="batch")  # fmt: skip
    delta = lv.get.subset_sets(model.adata)["delta"].to_numpy()
    lv.explain.set_interactions(model, progress=False)
    lv.explain.cross_effect(model, relative=False)
    try:
        again = lv.get.set_interactions(model.adata, table="sets")["effect"]
        np.testing.assert_allclose(again, delta, rtol=1e-5)
        table = model.adata["atac"].uns["cross_effect"]["effects"]
        own = table[table["group"] == table["in_group"]]["effect"]
        np.testing.assert_allclose(own, delta, rtol=1e-5)
    finally:
        for key in ("set_interactions", "cross_effect"):
            model.adata["atac"].uns.pop(key, None)


@pytest.mark.parametrize("shared", ["targets", "groups"])
def test_a_shared_set_is_the_best_of_all(model, explain, log_prediction, shared):
    genes, groups = (["gene_0005", "gene_0002"], ["type_1"]) if shared == "targets" else (["gene_0005"], ["type_1", "type_2"])  # fmt: skip
    links = model.get_cis_links(genes=genes)
    peaks = list(dict.fromkeys(links.groupby("gene")["peak"].head(4)))[:8]
    _, members = explain(genes, "cell_type", groups, 2, shared=shared, feature_mask=peaks, beta=0.0)
    sets = members.groupby(["gene", "group"])["feature"].agg(list)
    assert len(sets) == 2 and sets.iloc[0] == sets.iloc[1]
    cells = [cells_of(model, "train", cell_type=g) for g in groups]

    def loss(pair):
        values = [log_prediction(model, g, c, pair).mean() / max(log_prediction(model, g, c).mean(), 0.1) for g in genes for c in cells]  # fmt: skip
        return np.mean(values)

    best = min(map(loss, map(list, combinations(peaks, 2))))
    assert loss(sets.iloc[0]) <= best + 1e-5


def test_stored_sets_are_kept_or_found_again(model, explain):
    genes = ["gene_0001", "gene_0002"]
    explain(genes, "cell_type", ["type_1"], 2, shared="targets")
    with pytest.raises(ValueError, match=r"other arguments \(pairs\)"):
        explain([*genes, "gene_0003"], "cell_type", ["type_1"], 2, shared="targets", overwrite=False)  # fmt: skip
    with pytest.raises(ValueError, match=r"other arguments \(pairs, shared\)"):
        explain(genes, "cell_type", ["type_1"], 2, overwrite=False)
    explain("gene_0001", "cell_type", None, 2, contrast=("type_1", "type_0"), donor_key="batch")
    explain("gene_0002", "cell_type", None, 2, contrast=("type_1", "type_0"), donor_key="batch", overwrite=False)  # fmt: skip
    assert lv.get.subset_donors(model.adata)["gene"].unique().tolist() == genes
    with pytest.raises(ValueError, match=r"other arguments \(against\)"):
        explain("gene_0002", "cell_type", None, 2, contrast=("type_1", "type_2"), donor_key="batch", overwrite=False)  # fmt: skip


def test_round_trip(model, explain, tmp_path):
    explain("gene_0001", "cell_type", ["type_1"], 2, contrast=("treated", "control"), condition_key="condition", donor_key="batch")  # fmt: skip
    model.adata.write_h5mu(tmp_path / "x.h5mu")
    back = md.read_h5mu(tmp_path / "x.h5mu")
    pd.testing.assert_frame_equal(lv.get.subset_donors(back), lv.get.subset_donors(model.adata), check_dtype=False)  # fmt: skip
    explain("gene_0001", "cell_type", ["type_1"], 2)
    with pytest.raises(ValueError, match="with donor_key"):
        lv.get.subset_donors(model.adata)


def test_cells_without_a_donor_are_not_reported(model, explain):
    obs = model.adata["atac"].obs
    obs["patient"] = obs["batch"].astype(str).where(obs["batch"] != "batch_0")
    try:
        row, _ = explain("gene_0001", n_features=2, donor_key="patient")
        known = obs["patient"].notna().to_numpy()
        assert row["n_test_cells"] == known[lv.adapters.adapter(model).held_out_cells].sum()
        assert len(lv.get.subset_donors(model.adata)) == 4
    finally:
        del obs["patient"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"contrast": ("type_1", "type_9"), "groupby": "cell_type"}, "Group 'type_9' is unknown"),
        ({"contrast": ("type_1", "type_1"), "groupby": "cell_type"}, "names the same cells twice"),
        ({"contrast": ("type_1", "type_0")}, "Pass their column as groupby"),
        ({"contrast": ("type_1", "type_0"), "groupby": "cell_type", "groups": "type_2"}, "Leave groups out"),
        ({"contrast": ("a", "b"), "condition_key": "condition"}, "Condition 'a' is unknown"),
        ({"condition_key": "condition"}, "of use with contrast only"),
        ({"contrast": ("type_1", "type_0"), "groupby": "cell_type", "effect": 0.5}, "contrast cannot be combined"),
        ({"shared": "targets", "effect": 0.5}, "shared cannot be combined"),
        ({"shared": "genes"}, "Allowed: None, 'targets', 'groups'"),
        ({"donor_key": "patients"}, "donor_key='patients' is not a column"),
    ],
)  # fmt: skip
def test_bad_input(explain, options, message):
    with pytest.raises((ValueError, KeyError), match=message):
        explain("gene_0001", n_features=2, **options)


def test_a_group_without_cells_of_a_condition_is_left_out(model, explain, said):
    model.adata["atac"].obs["only"] = np.where(model.adata["atac"].obs["cell_type"] == "type_0", "x", "y")  # fmt: skip
    try:
        with pytest.raises(ValueError, match="'type_0' in 'y' has 0 cells"):
            explain("gene_0001", "cell_type", ["type_0"], 2, contrast=("x", "y"), condition_key="only")  # fmt: skip
    finally:
        del model.adata["atac"].obs["only"]


@pytest.mark.parametrize("name", ["MULTIVI", "PEAKVI", "SCVI"])
def test_models_of_scvi_tools(fitted, name):
    """A set that acts in one batch and not in the other, in other models, with part of the change."""
    model = fitted(name)
    target = {"latent": [0]} if name != "MULTIVI" else None
    data = model.adata
    store = data["atac"] if name == "MULTIVI" else data
    target = list(data["rna"].var_names[:2]) if target is None else target
    try:
        lv.explain.subset_perturbation(
            model, target, "batch", contrast=("batch_0", "batch_1"), n_features=2, strength=0.5, **QUIET
        )  # fmt: skip
        sets = lv.get.subset_sets(data)
        assert (sets["group"] == "batch_0").all()
        assert sets[["delta", "delta_against", "difference", "difference_low", "difference_high"]].notna().all(axis=None)  # fmt: skip
        relative = sets["rel_delta"] - sets["rel_delta_against"] if name == "MULTIVI" else sets["delta"] - sets["delta_against"]  # fmt: skip
        np.testing.assert_allclose(sets["difference"], relative, atol=1e-6)
    finally:
        for slot in ("uns", "varm"):
            getattr(store, slot).pop(KEY, None)
