"""Plots over a cohort: every case is a point, never a bar of means."""
