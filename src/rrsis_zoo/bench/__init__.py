"""Benchmarks: jobs that train and test, tables that are made from what the jobs left."""
