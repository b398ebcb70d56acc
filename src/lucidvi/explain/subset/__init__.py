"""Sets of features that, masked together, change an output."""
