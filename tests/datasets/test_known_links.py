from io import StringIO

import pandas as pd
import pytest

from lucidvi.datasets import _known_links, crispri_links, fine_mapped_eqtl

COLUMNS = list(_known_links._CRISPRI)
ROWS = [
    ["GENE1", "chr1", 100, 600, "TRUE", -0.4, 5_000, 4_400, "K562", "A"],
    ["GENE1", "chr1", 900, 900, "FALSE", 0.1, 5_000, 4_100, "K562", "A"],
]


def test_crispri_links(tmp_path):
    path = tmp_path / "pairs.tsv.gz"
    pd.DataFrame(ROWS, columns=COLUMNS).to_csv(path, sep="\t", index=False)
    table = crispri_links(path=path)
    assert table["regulated"].tolist() == [True, False]
    assert table["end"].tolist() == [600, 901]  # a point is a base long
    assert table[["gene", "tss", "cell_type"]].iloc[0].tolist() == ["GENE1", 5_000, "K562"]
    with pytest.raises(KeyError, match="lacks the column"):
        crispri_links(path=StringIO("a\tb\n1\t2\n"))
    wrong = pd.DataFrame([[*ROWS[0][:4], "perhaps", *ROWS[0][5:]]], columns=COLUMNS)
    with pytest.raises(ValueError, match="'perhaps' instead of TRUE or FALSE"):
        crispri_links(path=StringIO(wrong.to_csv(sep="\t", index=False)))


def test_downloads_are_checked(monkeypatch, tmp_path):
    """The file is asked for by its SHA-256, and nothing is downloaded for a path."""
    asked = {}

    def retrieve(url, known_hash, **options):
        asked.update(url=url, known_hash=known_hash)
        pd.DataFrame(ROWS, columns=COLUMNS).to_csv(tmp_path / "x.tsv", sep="\t", index=False)
        return tmp_path / "x.tsv"

    monkeypatch.setattr(_known_links.pooch, "retrieve", retrieve)
    assert len(crispri_links("held_out")) == 2
    assert "heldout_5_cell_types" in asked["url"]
    assert asked["known_hash"].startswith("sha256:7783534a")
    with pytest.raises(ValueError, match="part='test' is unknown"):
        crispri_links("test")


def test_fine_mapped_eqtl():
    table = pd.DataFrame({
        "gene_id": ["ENSG1", "ENSG1", "ENSG2.3", "ENSG3"], "pip": [0.6, 0.9, 0.7, 0.2],
        "variant": ["chr1_100_A_G", "chr1_100_A_G", "chrX_50_CTT_C", "chr2_7_A_C"],
    })  # fmt: skip
    file = lambda t: StringIO(t.to_csv(sep="\t", index=False))
    found = fine_mapped_eqtl(file(table))
    assert found[["gene", "chrom", "start", "end", "pip"]].values.tolist() == [
        ["ENSG1", "chr1", 99, 100, 0.9], ["ENSG2.3", "chrX", 49, 52, 0.7],
    ]  # fmt: skip
    genes = pd.DataFrame({"gene_id": ["ENSG2.1"]}, index=["CD8A"])
    assert fine_mapped_eqtl(file(table), genes=genes)["gene"].tolist() == ["CD8A"]
    with pytest.raises(ValueError, match="at least 0.99. Lower min_pip"):
        fine_mapped_eqtl(file(table), min_pip=0.99)
    with pytest.raises(ValueError, match="cannot be read, such as 'rs7'"):
        fine_mapped_eqtl(file(table.assign(variant="rs7")))
