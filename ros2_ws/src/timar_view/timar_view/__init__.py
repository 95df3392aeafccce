"""Browser view of the head: its joints, both voices, speech turns, latency and health."""
