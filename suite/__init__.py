"""Runs things: workload and backend types, the child process, the timed window."""
