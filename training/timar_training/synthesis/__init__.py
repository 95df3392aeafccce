"""Synthetic conversations: voices, turn-taking, and head motion by stated rules."""
