"""Simulators with known truth, public data, sets of genes, and links that experiments have tested."""

from lucidvi.datasets._ace_simulation import ace_simulation
from lucidvi.datasets._decoy_enhancers import decoy_enhancers
from lucidvi.datasets._gene_sets import gene_sets
from lucidvi.datasets._hub_network import hub_network
from lucidvi.datasets._known_links import crispri_links, fine_mapped_eqtl
from lucidvi.datasets._pbmc3k import pbmc3k
from lucidvi.datasets._pbmc_multiome import pbmc_multiome
from lucidvi.datasets._redundant_enhancers import redundant_enhancers

__all__ = [
    "ace_simulation",
    "crispri_links",
    "decoy_enhancers",
    "fine_mapped_eqtl",
    "gene_sets",
    "hub_network",
    "pbmc3k",
    "pbmc_multiome",
    "redundant_enhancers",
]
