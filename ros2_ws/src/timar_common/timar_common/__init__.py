"""Shared by every room: sample clock and streams, described configuration, diagnostics, node base."""
