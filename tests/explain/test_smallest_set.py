"""The smallest set that reaches an effect, against all sets of a small problem."""

from itertools import combinations

import pytest

import lucidvi as lv

KEY = "subset_perturbation"


@pytest.fixture
def model(trained):
    yield trained
    trained.adata["atac"].uns.pop(KEY, None)
    trained.adata["atac"].varm.pop(KEY, None)


def smallest(model, gene, effect, **options):
    lv.explain.subset_perturbation(model, gene, effect=effect, n_null=0, progress=False, overwrite=True, **options)  # fmt: skip
    row = lv.get.subset_sets(model.adata, target=gene).iloc[0]
    return row, lv.get.subset_features(model.adata, target=gene)["feature"].tolist()


@pytest.mark.parametrize("gene", ["gene_0001", "gene_0006"])
def test_equals_all_sets_of_seven_peaks(model, expression, gene):
    links = model.get_cis_links(genes=[gene])
    peaks = links["peak"].tolist()[:7]
    cells = lv.adapters.adapter(model).train_cells
    before = expression(model, gene, cells).mean()
    # the first size at which one of all sets reaches the effect
    best = {k: min(expression(model, gene, cells, s).mean() for s in combinations(peaks, k)) for k in range(1, 4)}  # fmt: skip
    for effect in (0.05, 0.4, 0.7, 0.9):
        row, found = smallest(model, gene, effect, n_features=4, feature_mask=peaks)  # fmt: skip
        sizes = [k for k, mean in best.items() if mean <= before * (1 - effect) * (1 + 1e-6)]
        if row["reached"] and len(found) <= 3:
            assert len(found) == sizes[0]
            assert expression(model, gene, cells, found).mean() <= before * (1 - effect) * (1 + 1e-5)  # fmt: skip
        else:
            assert not sizes
        assert row["n_features"] == len(found)


def test_never_larger_than_greedy(model, expression):
    cells = lv.adapters.adapter(model).train_cells
    for gene, goal in (("gene_0002", 0.8), ("gene_0005", 0.9)):
        near = model.get_cis_links(genes=[gene])["peak"].tolist()[:15]
        row, found = smallest(model, gene, goal, n_features=8, feature_mask=near)
        before = expression(model, gene, cells).mean()
        greedy: list[str] = []
        while len(greedy) < len(found) and expression(model, gene, cells, greedy).mean() > (1 - goal) * before:  # fmt: skip
            greedy.append(min(near, key=lambda p: expression(model, gene, cells, [*greedy, p]).mean()))  # fmt: skip
        assert len(found) <= len(greedy)
        assert row["reached"] == (row["rel_delta_search"] <= -goal + 1e-6)


def test_an_effect_out_of_reach(model):
    row, found = smallest(model, "gene_0001", 1.0, n_features=2)
    assert not row["reached"]
    assert len(found) == 2
    assert row["rel_delta_search"] > -1


def test_up(model):
    model.adata["atac"].X.data[:] = 1.0
    row, found = smallest(model, "gene_0004", 0.2, n_features=5, direction="up", window=2_000_000)
    assert row["reached"] == (row["rel_delta_search"] >= 0.2 - 1e-6)
    assert 1 <= len(found) <= 5


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"effect": 0.0}, ValueError, "effect=0.0"),
        ({"effect": 1.5}, ValueError, "effect=1.5"),
        ({"effect": "half"}, TypeError, "effect='half' is of type str"),
        ({"effect": 0.5, "beta": 1.0}, ValueError, "Leave beta out"),
    ],
)
def test_bad_input(model, options, error, message):
    with pytest.raises(error, match=message):
        lv.explain.subset_perturbation(model, "gene_0001", progress=False, **options)
    assert KEY not in model.adata["atac"].uns


def test_shares_need_outputs_that_are_not_negative(fitted):
    model = fitted("SCVI")
    with pytest.raises(ValueError, match="latent outputs can be negative"):
        lv.explain.subset_perturbation(model, {"latent": [0]}, effect=0.5, progress=False)


# ---- which peaks may be in a set -----------------------------------------------------------------------------------


def distances(model, gene):
    found = lv.get.subset_features(model.adata, target=gene)["distance"]
    return found.abs()


def test_promoters(model):
    options = {
        "n_features": 3,
        "n_null": 0,
        "progress": False,
        "overwrite": True,
        "window": 500_000,
    }
    lv.explain.links(model, window=1_000, progress=False)
    gene = lv.get.links(model.adata)["gene"].iloc[0]  # has a peak near its TSS
    lv.explain.subset_perturbation(model, gene, promoter="require", **options)
    assert (distances(model, gene) <= 1_000).any()
    with_promoter = lv.get.subset_sets(model.adata)["delta_search"][0]
    lv.explain.subset_perturbation(model, gene, promoter="exclude", **options)
    assert (distances(model, gene) > 1_000).all()
    lv.explain.subset_perturbation(model, gene, **options)
    anything = lv.get.subset_sets(model.adata)["delta_search"][0]
    if (distances(model, gene) <= 1_000).any():
        assert abs(anything - with_promoter) < 1e-3 * abs(anything)
    lv.explain.subset_perturbation(model, gene, min_distance=50_000, **options)
    assert (distances(model, gene) >= 50_000).all()
    lv.explain.subset_perturbation(model, gene, promoter="require", **options | {"n_features": 1})
    assert (distances(model, gene) <= 1_000).all()
    lv.explain.subset_perturbation(model, gene, promoter="require", effect=0.01, **options)
    assert (distances(model, gene) <= 1_000).any()
    del model.adata["atac"].uns["links"]


def test_the_required_one_is_the_best_of_them(model, expression):
    """With every promoter peak tried, no set of two with one of them does better."""
    gene = "gene_0001"
    peaks = model.get_cis_links(genes=[gene])["peak"].tolist()[:6]
    var = model.adata["atac"].var
    before = var[["start", "end"]].copy()
    tss = model.adata["rna"].var.loc[gene, "tss"]
    var.loc[peaks[:2], "start"] = [tss - 400, tss + 300]  # two of them become promoter peaks
    var.loc[peaks[:2], "end"] = [tss - 300, tss + 400]
    try:
        row, found = smallest(model, gene, 0.05, n_features=2, feature_mask=peaks, promoter="require")  # fmt: skip
        assert set(found) & set(peaks[:2])
        if len(found) == 1:
            cells = lv.adapters.adapter(model).train_cells
            mean = {p: expression(model, gene, cells, [p]).mean() for p in peaks[:2]}
            assert found == [min(mean, key=mean.__getitem__)]
    finally:
        var[["start", "end"]] = before


def test_bad_places(model):
    with pytest.raises(ValueError, match="promoter='always' is unknown"):
        lv.explain.subset_perturbation(model, "gene_0001", promoter="always", progress=False)
    with pytest.raises(ValueError, match="min_distance=-1"):
        lv.explain.subset_perturbation(model, "gene_0001", min_distance=-1, progress=False)
    with pytest.raises(ValueError, match=r"promoter='require', but no peak within 1,000"):
        lv.explain.subset_perturbation(model, "gene_0001", promoter="require", n_features=2, min_openness=0.99, progress=False)  # fmt: skip
