"""Pictures as people have them, as 8-bit RGB for a model: any depth, any mode. Published data sets have
stricter readers."""
