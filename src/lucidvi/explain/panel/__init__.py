"""Signed panels of genes that turn one group into another."""
