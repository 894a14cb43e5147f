"""Who has seen what: what is inside public data sets and weights, and what follows for a test. No torch."""
