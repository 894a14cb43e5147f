"""One card a method: where its code is, what it costs, whose it is, where its weights come from. Imports no torch."""
