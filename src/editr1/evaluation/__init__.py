"""Evaluation of verifiers and editors: metrics with intervals, benchmarks."""
