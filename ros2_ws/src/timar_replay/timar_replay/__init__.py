"""Runs the nodes' components on bags: replay, batches and scenarios."""
