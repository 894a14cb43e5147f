"""The benchmark: jobs that train and test methods side by side, what they cost, reports and searches."""
