"""Where weights come from, and how names of released files map to ours."""
