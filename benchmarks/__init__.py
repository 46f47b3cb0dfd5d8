"""Figures of termai_http beside its peers, as ratios within one run: ``python -m benchmarks``."""
