"""Datasets: files to records, records to batches."""
