"""Pictures as people have them, as 8-bit RGB for a model: any depth, any mode. Data sets have stricter readers."""
