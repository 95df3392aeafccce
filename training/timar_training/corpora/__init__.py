"""Corpora: recorded dyads on disk, their readers, checks, index and splits."""
