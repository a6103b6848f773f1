"""What serves only the compiler: programs exported, annotated and compiled, nothing executed."""
