"""Where the cells of a sweep run: written out for a cluster's scheduler, or handed to Ray.

Whatever starts it, a cell is one command that may be run again: it reads the shared store, runs the
repetitions that are missing there, and stores each as it ends.
"""
