"""Who has seen what: a ledger of the data inside public data sets and weights, and what follows for a test. No torch."""
