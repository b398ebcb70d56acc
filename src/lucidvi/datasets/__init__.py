"""Simulators with known truth, used by tests, tutorials and benchmarks alike."""

from lucidvi.datasets._redundant_enhancers import redundant_enhancers

__all__ = ["redundant_enhancers"]
