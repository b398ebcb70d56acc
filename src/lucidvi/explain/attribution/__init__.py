"""Attributions, and tests of them."""
