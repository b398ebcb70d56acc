"""Gene sets from a file or table, matched to the genes of the data."""

import gzip
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from os import PathLike
from pathlib import Path

import pandas as pd

from lucidvi._logging import logger, warn
from lucidvi._validation import near

type Source = str | PathLike | Mapping[str, Iterable[str]] | pd.DataFrame


def gene_sets(
    source: Source,
    names: str | Sequence[str] | Mapping[str, str] | None = None,
    *,
    var_names: Iterable[str] | None = None,
    min_share: float = 0.5,
) -> pd.DataFrame | dict[str, list[str]]:
    """Read gene sets, such as those of the Gene Ontology, and match them to the genes of the data.

    Parameters
    ----------
    source
        A ``.gmt`` or ``.gmt.gz`` file (MSigDB, Enrichr), a mapping from name to genes, or a table
        in the layout of decoupler's networks: columns ``source`` (the set) and ``target`` (the
        gene), one row per member. Weights are not used.
    names
        Sets to read; all by default. Give the full name, or a part that occurs in only one name,
        such as ``"GO:0043410"`` (upper or lower case). A mapping gives sets new names:
        ``{"mapk": "GO:0043410"}``. Names with ``/`` cannot be written to a file as columns of
        ``adata.var``.
    var_names
        Genes of the data, ``adata.var_names``. Names must match exactly.
    min_share
        Warn about a set if the share of its genes that are in the data is smaller than this.

    Returns
    -------
    With ``var_names``, a boolean DataFrame of genes x sets, ready for
    ``adata.var = adata.var.join(sets)`` or ``adata.varm["sets"] = sets``. Without ``var_names``, a
    dict from name to genes.

    Raises
    ------
    KeyError
        If the table lacks a column.
    TypeError
        If ``source`` is of another kind.
    ValueError
        If the file is not GMT or names a set twice, a requested name is unknown or matches several
        sets, or no gene of a set is in the data.

    Warns
    -----
    UserWarning
        If less than ``min_share`` of a set's genes are in the data.

    Examples
    --------
    >>> import lucidvi as lv
    >>> sets = {"MAPK cascade (GO:0043410)": ["EGF", "KDR"], "NF-kB (GO:1901224)": ["TLR2"]}
    >>> lv.datasets.gene_sets(sets, {"mapk": "GO:0043410"}, var_names=["KDR", "TLR2", "EGF"])
          mapk
    KDR   True
    TLR2 False
    EGF   True
    """
    members = _read(source)
    chosen = _chosen(members, names)
    if var_names is None:
        return chosen
    genes = pd.Index(var_names)
    known = set(genes)
    table = {}
    for name, wanted in chosen.items():
        missing = [gene for gene in wanted if gene not in known]
        found = len(wanted) - len(missing)
        logger.info("%s: %d of %d genes are in the data.", name, found, len(wanted))
        if not found:
            raise ValueError(_sentence(name, wanted, missing, genes))
        if found < min_share * len(wanted):
            warn(_sentence(name, wanted, missing, genes))
        table[name] = genes.isin(wanted)
    return pd.DataFrame(table, index=genes)


def _read(source: Source) -> dict[str, list[str]]:
    if isinstance(source, str | PathLike):
        return _read_gmt(Path(source))
    if isinstance(source, pd.DataFrame):
        lacking = [name for name in ("source", "target") if name not in source]
        if lacking:
            raise KeyError(f"The table lacks the column(s) {lacking}; it has {list(source)}.")
        by_set = source.groupby("source", sort=False, observed=True)["target"]
        return {str(name): list(dict.fromkeys(genes)) for name, genes in by_set}
    if isinstance(source, Mapping):
        single = [name for name, genes in source.items() if isinstance(genes, str)]
        if single:
            raise TypeError(f"Set {single[0]!r} is a string; give a list of gene names.")
        return {str(name): list(dict.fromkeys(genes)) for name, genes in source.items()}
    raise TypeError(
        f"`source` is of type {type(source).__name__}. Pass the path of a .gmt file, a mapping from "
        "name to genes, or a DataFrame with the columns 'source' and 'target'."
    )


def _read_gmt(path: Path) -> dict[str, list[str]]:
    opener = gzip.open if path.suffix.lower() == ".gz" else open
    sets: dict[str, list[str]] = {}
    with opener(path, "rb") as file:
        content = file.read()
    try:
        text = content.decode("utf-8-sig")  # Windows puts a mark in front
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path.name} is not written in UTF-8 (byte {error.start}). Save it in UTF-8, for example with iconv -f latin1 -t utf8."
        ) from error
    with StringIO(text, newline=None) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            name, *rest = line.rstrip("\r\n").split("\t")
            if len(rest) < 2:
                raise ValueError(
                    f"Line {number} of {path.name} is not GMT: name, description and genes, "
                    "separated by tabs."
                )
            if name in sets:
                raise ValueError(f"{path.name} names the set {name!r} twice; rename one of them.")
            stripped = (gene.strip() for gene in rest[1:])
            sets[name] = list(dict.fromkeys(gene for gene in stripped if gene))
    return sets


def _chosen(members: dict[str, list[str]], names) -> dict[str, list[str]]:
    if names is None:
        return members
    if isinstance(names, Mapping):
        return {str(new): members[_find(name, members)] for new, name in names.items()}
    names = [names] if isinstance(names, str) else list(names)
    return {found: members[found] for found in (_find(name, members) for name in names)}


def _find(name: str, known: Iterable[str]) -> str:
    if name in known:
        return name
    matches = [other for other in known if str(name).lower() in other.lower()]
    if len(matches) == 1:
        return matches[0]
    if not matches:
        raise ValueError(f"Gene set {name!r} is unknown. {near(name, known)}")
    shown = ", ".join(map(repr, matches[:10]))
    raise ValueError(
        f"{name!r} is part of {len(matches)} names: {shown}{', ...' if len(matches) > 10 else ''}. "
        "Give a longer part or the whole name."
    )


def _sentence(name: str, wanted: Sequence[str], missing: Sequence[str], genes: pd.Index) -> str:
    """How many genes of a set are in the data, and whether another case would find more."""
    found = len(wanted) - len(missing)
    text = f"{found} of the {len(wanted)} genes of {name!r} are in the data"
    if missing:
        text += f"; missing are {', '.join(map(str, missing[:5]))}{', ...' if missing[5:] else ''}"
    lower = set(genes.astype(str).str.lower())
    in_other_case = sum(str(gene).lower() in lower for gene in wanted)
    if in_other_case > found:
        text += (
            f". {in_other_case} would be found without regard to case: are sets and data of the "
            f"same species? The data have names such as {', '.join(map(str, genes[:3]))}"
        )
    return text + "."
