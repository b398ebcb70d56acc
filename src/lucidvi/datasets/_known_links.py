"""Pairs of element and gene that experiments have tested: to score links on."""

from io import TextIOBase
from os import PathLike
from typing import Literal

import numpy as np
import pandas as pd
import pooch

from lucidvi._arguments import checked
from lucidvi._validation import check_number, require_columns

_COMMIT = "83e6f72a0f1e5b3a07ba741850ad9a1eedec45e9"
_URL = f"https://raw.githubusercontent.com/EngreitzLab/CRISPR_comparison/{_COMMIT}/resources/crispr_data/"
_FILES = {
    "training": (
        "EPCrisprBenchmark_combined_data.training_K562.GRCh38.tsv.gz",
        "9eddfe18f6797ba33db8ba7e75378cc6af6b79cbb83f62d470c6e0cefed79405",
    ),
    "held_out": (
        "EPCrisprBenchmark_combined_data.heldout_5_cell_types.GRCh38.tsv.gz",
        "7783534a5ecd0a3b4bccb1923d60c0507536afb81dc0c886392667df4e5ffd38",
    ),
}
_CRISPRI = {
    "measuredGeneSymbol": "gene", "chrom": "chrom", "chromStart": "start", "chromEnd": "end", "Regulated": "regulated",
    "EffectSize": "effect", "startTSS": "tss", "distanceToTSS": "distance", "CellType": "cell_type", "Dataset": "data_set",
}  # fmt: skip


@checked
def crispri_links(
    part: Literal["training", "held_out"] = "training",
    *,
    path: str | PathLike | TextIOBase | None = None,
) -> pd.DataFrame:
    r"""Return pairs of a genomic element and a gene that were tested by CRISPR interference.

    The pairs were collected for the ENCODE benchmark :cite:p:`Gschwind2023`.

    Parameters
    ----------
    part
        Part of the benchmark. ``"training"`` has 10,356 pairs in K562, 471 of them regulated.
        ``"held_out"`` has 4,378 pairs in five cell types, 190 of them regulated. The file is
        downloaded once, checked by its SHA-256, and kept in the user's cache.
    path
        File, or open text file, of the same layout. It is read instead, and nothing is downloaded.

    Returns
    -------
    One row per pair, with coordinates of the genome build GRCh38: ``gene`` (symbol), ``chrom``,
    ``start``, ``end`` (of the element; counted from 0, half-open), ``regulated`` (whether the
    element was found to activate the gene), ``effect`` (relative change of expression), ``tss``
    (transcription start site of the gene), ``distance`` (base pairs to the TSS), ``cell_type`` and
    ``data_set``.

    Raises
    ------
    KeyError
        If the file lacks a column.
    ValueError
        For an unknown part, or a downloaded file that is not the expected one.

    Examples
    --------
    >>> from io import StringIO
    >>> import pandas as pd
    >>> import lucidvi as lv
    >>> columns = ["chrom", "chromStart", "chromEnd", "measuredGeneSymbol", "Regulated", "EffectSize", "startTSS", "distanceToTSS", "CellType", "Dataset"]
    >>> row = ["chr1", 3774714, 3775214, "CEP104", True, -0.29, 3857213, 82268, "K562", "Nasser2021"]
    >>> file = StringIO(pd.DataFrame([row], columns=columns).to_csv(sep="\t", index=False))
    >>> lv.datasets.crispri_links(path=file)[["gene", "regulated"]].values.tolist()
    [['CEP104', True]]
    """
    if part not in _FILES:
        raise ValueError(f"part={part!r} is unknown. Allowed: {', '.join(map(repr, _FILES))}.")
    if path is None:
        name, digest = _FILES[part]
        path = pooch.retrieve(_URL + name, f"sha256:{digest}", fname=name, path=pooch.os_cache("lucidvi"))  # fmt: skip
    table = pd.read_csv(path, sep="\t", low_memory=False)
    require_columns(table, list(_CRISPRI), str(path))
    return _tested(table[list(_CRISPRI)].rename(columns=_CRISPRI))


@checked
def fine_mapped_eqtl(
    path: str | PathLike | TextIOBase, *, min_pip: float = 0.5, genes: pd.DataFrame | None = None
) -> pd.DataFrame:
    r"""Return variants that very likely change a gene's expression, from the eQTL Catalogue.

    Parameters
    ----------
    path
        File, or open text file, of fine-mapped eQTL as credible sets (``*.credible_sets.tsv.gz``),
        with the columns ``gene_id``, ``variant`` (``chr1_12345_A_G``) and ``pip``. The catalogue,
        https://www.ebi.ac.uk/eqtl, offers one for each study and tissue.
    min_pip
        Smallest posterior probability that the variant is causal.
    genes
        Table with a column ``gene_id`` (Ensembl) and symbols as index. It is used to name genes by
        symbol, and genes that are not in it are left out. By default genes are named by their
        Ensembl identifiers.

    Returns
    -------
    One row per variant and gene, GRCh38: ``gene``, ``chrom``, ``start``, ``end`` (counted from 0,
    half-open), ``variant`` and ``pip``. All rows are known links.
    :func:`lucidvi.metrics.link_recovery` compares them with the other peaks of the same genes.

    Raises
    ------
    KeyError
        If the file lacks a column.
    ValueError
        If variants cannot be read, or none reaches ``min_pip``.

    Examples
    --------
    >>> from io import StringIO
    >>> import pandas as pd
    >>> import lucidvi as lv
    >>> table = pd.DataFrame({"gene_id": ["ENSG1", "ENSG2"], "variant": ["chr1_100_A_G", "chr2_7_C_T"], "pip": [0.9, 0.1]})
    >>> lv.datasets.fine_mapped_eqtl(StringIO(table.to_csv(sep="\t", index=False)))[["gene", "chrom", "start", "end"]].values.tolist()
    [['ENSG1', 'chr1', 99, 100]]
    """
    check_number(min_pip, "min_pip", least=0, most=1)
    table = pd.read_csv(path, sep="\t")
    require_columns(table, ["gene_id", "variant", "pip"], str(path))
    table = table[table["pip"] >= min_pip]
    if table.empty:
        raise ValueError(f"No variant of {path} has a posterior probability of at least {min_pip}. Lower min_pip.")  # fmt: skip
    parts = table["variant"].astype(str).str.extract(r"^(.+)_(\d+)_([A-Za-z*]+)_[A-Za-z*]+$")
    if parts[0].isna().any():
        raise ValueError(f"{parts[0].isna().sum()} variants of {path} cannot be read, such as {table['variant'][parts[0].isna()].iloc[0]!r}. Expected is chr1_12345_A_G.")  # fmt: skip
    start = parts[1].astype(np.int64) - 1
    out = pd.DataFrame({
        "gene": table["gene_id"].astype(str), "chrom": parts[0], "start": start, "end": start + parts[2].str.len(),
        "variant": table["variant"], "pip": table["pip"],
    })  # fmt: skip
    if genes is not None:
        require_columns(genes, ["gene_id"], "genes")
        plain = genes["gene_id"].astype(str).str.replace(r"\.\d+$", "", regex=True)
        symbols = dict(zip(plain, genes.index.astype(str), strict=True))
        out["gene"] = out["gene"].str.replace(r"\.\d+$", "", regex=True).map(symbols)
        out = out[out["gene"].notna()]
    # a variant in several credible sets of a gene is one link
    out = out.sort_values("pip", ascending=False).drop_duplicates(["gene", "chrom", "start", "end"])
    return out.sort_index().reset_index(drop=True)


def _tested(table: pd.DataFrame) -> pd.DataFrame:
    """Return tested pairs with known answers; a point is a base long."""
    table = table[table["regulated"].notna()].reset_index(drop=True)
    answers = table["regulated"].astype(str).str.upper().map({"TRUE": True, "FALSE": False})
    if answers.isna().any():
        raise ValueError(f"Column 'Regulated' holds {table['regulated'][answers.isna()].iloc[0]!r} instead of TRUE or FALSE.")  # fmt: skip
    table["regulated"] = answers.astype(bool)
    table["end"] = np.maximum(table["end"], table["start"] + 1)
    return table
