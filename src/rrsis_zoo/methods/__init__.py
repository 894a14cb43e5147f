"""The methods, one folder each, and the registry that knows them."""
