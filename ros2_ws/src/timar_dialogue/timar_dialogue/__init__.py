"""Dialogue of the head: recogniser, what to answer, and voice, each a plugin."""
