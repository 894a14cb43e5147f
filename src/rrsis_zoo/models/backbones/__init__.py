"""Builders around segment-anything, sam2 and transformers."""
