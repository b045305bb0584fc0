"""Tests of the exporter; those that need PyTorch say loudly that they are skipped without it."""
