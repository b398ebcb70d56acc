"""Simulators with known truth, used by tests, tutorials and benchmarks alike."""

from lucidvi.datasets._ace_simulation import ace_simulation
from lucidvi.datasets._decoy_enhancers import decoy_enhancers
from lucidvi.datasets._gene_sets import gene_sets
from lucidvi.datasets._hub_network import hub_network
from lucidvi.datasets._redundant_enhancers import redundant_enhancers

__all__ = [
    "ace_simulation",
    "decoy_enhancers",
    "gene_sets",
    "hub_network",
    "redundant_enhancers",
]
