"""Facts that can be proved: what each run wrote, chained and signed, and what no longer agrees."""
