"""Shared by every room: sample clock and streams, configuration, diagnostics, node base."""
