"""The methods: plain torch, one file a method; they import nothing of the rest of the package."""
