"""The triangle of pairs of a set."""

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


def test_set_interactions(explained):
    ax = lv.pl.set_interactions(explained.adata, show=False)
    assert "gene_0001" in ax.get_title(loc="left")
    assert len(ax.get_yticklabels()) == 4
    figure = lv.pl.set_interactions(explained.adata, "gene_0003", show_values="model", show=False)
    assert sum("gene_0003" in a.get_title(loc="left") for a in figure.axes) == 2
    with pytest.raises(ValueError, match="show_values='both' is unknown"):
        lv.pl.set_interactions(explained.adata, show_values="both")
