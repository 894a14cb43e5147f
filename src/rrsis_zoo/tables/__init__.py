"""Tables: what trained and tested methods scored, from the records and per-sample files that they left."""
