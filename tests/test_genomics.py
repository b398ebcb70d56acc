import numpy as np
import pandas as pd
import pytest

from lucidvi._genomics import body_gap, cis_pairs, gene_coordinates, peak_coordinates

NAMES = {
    "chr1:100-200": ("chr1", 100, 200),
    "chr1-100-200": ("chr1", 100, 200),
    "chr1_100_200": ("chr1", 100, 200),
    "X:0-7": ("X", 0, 7),
    "GL000219.1-100-200": ("GL000219.1", 100, 200),
    "GL000219.1:100-200": ("GL000219.1", 100, 200),
    "HLA-A*01-5-9": ("HLA-A*01", 5, 9),
    "HLA-A*01:01:5-9": ("HLA-A*01:01", 5, 9),
    "HLA-A*01:01-5-9": ("HLA-A*01:01", 5, 9),
    "chrUn_KI270742v1_5_9": ("chrUn_KI270742v1", 5, 9),
    "chr1_KI270706v1_random-5-9": ("chr1_KI270706v1_random", 5, 9),
    "chr2:248000000-248000500": ("chr2", 248_000_000, 248_000_500),
}


def random_genome(seed, n_genes=40, n_peaks=300, size=50_000):
    rng = np.random.default_rng(seed)
    chroms = np.array(["chr1", "chr2", "chrX", "GL000219.1"])
    start = rng.integers(0, size, n_peaks)
    # A few peaks span many others: sorted starts do not mean sorted ends.
    width = np.where(rng.random(n_peaks) < 0.05, rng.integers(5_000, 20_000, n_peaks), 300)
    peaks = pd.DataFrame(
        {"chrom": rng.choice(chroms, n_peaks), "start": start, "end": start + width}
    )
    start = rng.integers(0, size, n_genes)
    end = start + rng.integers(0, 3_000, n_genes)
    strand = rng.choice(["+", "-", ""], n_genes)
    genes = pd.DataFrame(
        {
            "chrom": rng.choice([*chroms, "chr7", ""], n_genes),
            "start": start,
            "end": end,
            "strand": strand,
            "tss": np.where(strand == "-", end, start),
        }
    )
    return genes, peaks


def brute_force(genes, peaks, window):
    pairs = []
    for g, gene in enumerate(genes.itertuples()):
        for p, peak in enumerate(peaks.itertuples()):
            if gene.chrom != peak.chrom:
                continue
            if peak.end < gene.tss - window or peak.start > gene.tss + window:
                continue
            nearest = min(max(gene.tss, peak.start), peak.end)
            pairs.append((g, p, (nearest - gene.tss) * (-1 if gene.strand == "-" else 1)))
    return np.array(pairs, dtype=np.int64).reshape(-1, 3)


@pytest.mark.parametrize("window", [0, 1, 700, 10_000, 10**15])
@pytest.mark.parametrize("seed", range(4))
def test_cis_pairs_equal_brute_force(seed, window):
    genes, peaks = random_genome(seed)
    gene, peak, distance = cis_pairs(genes, peaks, window)
    np.testing.assert_array_equal(
        np.column_stack([gene, peak, distance]), brute_force(genes, peaks, window)
    )
    assert gene.dtype == peak.dtype == distance.dtype == np.int64


def test_cis_pairs_sign_follows_the_strand():
    peaks = pd.DataFrame({"chrom": ["1"] * 3, "start": [100, 490, 900], "end": [200, 510, 950]})
    genes = pd.DataFrame(
        {"chrom": "1", "start": 500, "end": 500, "strand": ["+", "-", ""], "tss": 500}
    )
    distance = cis_pairs(genes, peaks, 1_000)[2].reshape(3, 3)
    np.testing.assert_array_equal(distance, [[-300, 0, 400], [300, 0, -400], [-300, 0, 400]])


def test_cis_pairs_follow_the_order_of_peaks():
    genes, peaks = random_genome(0)
    order = np.random.default_rng(1).permutation(len(peaks))
    gene, peak, distance = cis_pairs(genes, peaks, 5_000)
    gene2, peak2, distance2 = cis_pairs(genes, peaks.iloc[order], 5_000)
    assert set(zip(gene, peak, distance, strict=True)) == set(
        zip(gene2, order[peak2], distance2, strict=True)
    )


def test_cis_pairs_with_and_without_chr():
    genes, peaks = random_genome(0)
    bare = genes.assign(chrom=genes["chrom"].str.removeprefix("chr"))
    for one, other in zip(cis_pairs(genes, peaks, 999), cis_pairs(bare, peaks, 999), strict=True):
        np.testing.assert_array_equal(one, other)


def test_cis_pairs_errors():
    genes, peaks = random_genome(0)
    with pytest.raises(ValueError, match=r"share no chromosome.*'II'.*'chr"):
        cis_pairs(genes.assign(chrom="II"), peaks, 10)
    with pytest.raises(ValueError, match="genes lie on none"):
        cis_pairs(genes.assign(chrom=""), peaks, 10)
    with pytest.raises(ValueError, match="`window` must be 0 or more"):
        cis_pairs(genes, peaks, -1)
    with pytest.raises(TypeError):
        cis_pairs(genes, peaks, 1.5)


def test_peak_names_of_every_form():
    coordinates = peak_coordinates(pd.DataFrame(index=list(NAMES)))
    assert list(coordinates.itertuples(index=False, name=None)) == list(NAMES.values())
    assert list(coordinates.index) == list(NAMES)
    assert coordinates["start"].dtype == coordinates["end"].dtype == np.int64


@pytest.mark.parametrize(
    "columns",
    [
        ("chrom", "start", "end"),
        ("chr", "start", "end"),
        ("seqnames", "start", "end"),
        ("chromosome", "chromStart", "chromEnd"),
        ("Chromosome", "Start", "End"),
    ],
)
def test_peak_columns_win_over_names(columns):
    var = pd.DataFrame([["chr1", 5, 9], ["2", 6, 10]], columns=columns, index=["a", "chr8:1-2"])
    var[columns[0]] = var[columns[0]].astype("category")
    expected = [("chr1", 5, 9), ("2", 6, 10)]
    assert list(peak_coordinates(var).itertuples(index=False, name=None)) == expected


def test_peak_interval_column_and_duplicated_names():
    var = pd.DataFrame({"interval": ["chr1:5-9", "chr1:15-19"]}, index=["a", "a"])
    assert peak_coordinates(var)["end"].tolist() == [9, 19]


@pytest.mark.parametrize("name", ["peak_1", "chr1", "chr1:10", "chr1:-5-10", "10-20", ":1-2", ""])
def test_unparsable_peak_names(name):
    var = pd.DataFrame(index=["chr1:1-2", name])
    with pytest.raises(ValueError, match=r"1 of 2 peak names.*Allowed are 'chr1:100-200'.*columns"):
        peak_coordinates(var)


def test_at_most_three_examples_are_named():
    with pytest.raises(ValueError, match=r"5 of 5 peak names .* e\.g\. 'p0', 'p1', 'p2', \.\.\."):
        peak_coordinates(pd.DataFrame(index=[f"p{i}" for i in range(5)]))


@pytest.mark.parametrize("start,end", [(9, 5), (5, 5), (-1, 5), (np.nan, 5), (0.5, 5), (1, np.inf)])
def test_impossible_peaks(start, end):
    var = pd.DataFrame({"chrom": "chr1", "start": [1, start], "end": [3, end]}, index=["a", "b"])
    with pytest.raises(ValueError, match=r"1 of 2 peaks have impossible coordinates.*'b'"):
        peak_coordinates(var)
    with pytest.raises(ValueError, match="impossible"):
        peak_coordinates(pd.DataFrame(index=["chr1:9-5"]))


def test_genes_keep_those_without_coordinates():
    var = pd.DataFrame(
        {
            "chrom": ["chr1", "chr1", np.nan, "nan", "chr2", "chr2"],
            "start": [10, 10, 1, 1, np.nan, 30],
            "end": [20, 20, 2, 2, 5, 40],
            "strand": ["+", "-", "+", "+", "+", np.nan],
            "has_coords": [True, True, True, True, True, False],
        },
        index=list("abcdef"),
    )
    genes = gene_coordinates(var)
    assert genes["chrom"].tolist() == ["chr1", "chr1", "", "", "", ""]
    assert genes["start"].tolist() == [10, 10, -1, -1, -1, -1]
    assert genes["tss"].tolist() == [10, 20, -1, -1, -1, -1]
    assert (genes.dtypes[["start", "end", "tss"]] == np.int64).all()
    pd.testing.assert_frame_equal(gene_coordinates(genes), genes)


def test_gene_strands_tss_and_numbered_chromosomes():
    var = pd.DataFrame({"chr": [1, 2, None], "start": 10, "end": 20, "strand": [1, -1, None]})
    genes = gene_coordinates(var)
    assert genes["chrom"].tolist() == ["1", "2", ""]
    assert genes["strand"].tolist() == ["+", "-", ""]
    assert genes["tss"].tolist() == [10, 20, -1]
    assert gene_coordinates(var.drop(columns="strand"))["tss"].tolist() == [10, 10, -1]
    assert gene_coordinates(var.assign(tss=15))["tss"].tolist() == [15, 15, -1]


def test_genes_by_interval_or_tss():
    genes = gene_coordinates(pd.DataFrame({"interval": ["chr1:100-200", "NA", np.nan]}))
    assert genes["chrom"].tolist() == ["chr1", "", ""]
    assert genes["end"].tolist() == [200, -1, -1]
    genes = gene_coordinates(pd.DataFrame({"chrom": ["chr1"], "tss": [7]}))
    assert genes[["start", "end", "tss"]].iloc[0].tolist() == [7, 7, 7]


def test_gene_errors():
    with pytest.raises(KeyError, match=r"'chrom', 'start', 'end'.*found \['n_cells'\].*cis_window"):
        gene_coordinates(pd.DataFrame({"n_cells": [1]}))
    with pytest.raises(ValueError, match="'interval'.*'somewhere'"):
        gene_coordinates(pd.DataFrame({"interval": ["somewhere"]}))
    with pytest.raises(ValueError, match="1 of 1 genes have impossible coordinates"):
        gene_coordinates(pd.DataFrame({"chrom": ["1"], "start": [9], "end": [5]}))


@pytest.mark.parametrize(
    ("plus", "minus"),
    [("+", "-"), (1, -1), ("1", "-1"), (1.0, -1.0), ("plus", "minus"), ("Forward", "Reverse"), ("+ ", " -"), ("f", "r"), ("+", "\u2212"), ("positive", "negative")],
)  # fmt: skip
@pytest.mark.parametrize("style", [str.lower, str.upper, str.title])
def test_strands_and_columns_in_any_spelling(plus, minus, style):
    columns = {
        "chromosome": "chr1",
        "start": [10, 10, 10],
        "end": [20, 20, 20],
        "strand": [plus, minus, None],
    }
    var = pd.DataFrame(columns, index=["a", "b", "c"]).rename(columns=style)
    genes = gene_coordinates(var)
    assert genes["strand"].tolist() == ["+", "-", ""] and genes["tss"].tolist() == [10, 20, 10]
    named = var.assign(TSS=[11, 19, 12])
    assert gene_coordinates(named)["tss"].tolist() == [11, 19, 12]


def test_what_cannot_be_read_is_an_error():
    var = pd.DataFrame({"chrom": "chr1", "start": [10], "end": [20], "strand": ["up"]}, index=["a"])
    with pytest.raises(ValueError, match="strands in column 'strand'"):
        gene_coordinates(var)
    with pytest.raises(ValueError, match="values of column 'start' are no numbers"):
        gene_coordinates(var.assign(strand="+", start="ten"))
    with pytest.raises(ValueError, match="neither true nor false"):
        gene_coordinates(var.assign(strand="+", has_coords="perhaps"))
    read = gene_coordinates(
        var.assign(strand=".", start="1,000", end="2,000,500", has_coords="yes")
    )
    assert read.iloc[0][["start", "end", "chrom"]].tolist() == [1000, 2_000_500, "chr1"]


@pytest.mark.parametrize(("one", "other"), [("chr1", "1"), ("Chr2", "chr2"), ("MT", "chrM"), ("M", "chrMT"), ("chrX", "x")])  # fmt: skip
def test_names_of_a_chromosome(one, other):
    genes = gene_coordinates(pd.DataFrame({"chrom": [one], "start": 50, "end": 60}, index=["g"]))
    peaks = peak_coordinates(
        pd.DataFrame({"chrom": [other, "9"], "start": [0, 50], "end": [41, 55]})
    )
    assert body_gap(genes.iloc[0], peaks).tolist() == [9, np.inf]
    assert cis_pairs(genes, peaks, 9)[1].tolist() == [0] and len(cis_pairs(genes, peaks, 8)[1]) == 0


def test_touching_bodies_have_no_gap():
    gene = pd.Series({"chrom": "chr1", "start": 100, "end": 200})
    peaks = pd.DataFrame({"chrom": "chr1", "start": [50, 50, 150, 200, 203], "end": [99, 100, 160, 250, 250]})  # fmt: skip
    assert body_gap(gene, peaks).tolist() == [1, 0, -1, 0, 3]
