"""Findings about a result: one list, which every output reads."""
