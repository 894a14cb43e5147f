"""What `rrsis segment` writes about a picture: a drawing, mask files, a record; and under which names."""
