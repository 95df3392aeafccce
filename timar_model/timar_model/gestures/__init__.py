"""Communicative head gestures: what they are, how they look, and when people make them."""
