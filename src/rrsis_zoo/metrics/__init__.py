"""Metrics of the field under named protocols."""
