"""Scores that rebuild tables of the papers and that users of a result do not need."""
