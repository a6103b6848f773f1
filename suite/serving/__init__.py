"""A server under load: what is asked of it, by which generator, the proof of it, the facts."""
