"""Referring remote sensing image segmentation: the published decoupled methods on one contract."""
