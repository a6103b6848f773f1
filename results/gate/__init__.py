"""The gate: which rows it compares, its looks, its tests, its policy and its report."""
