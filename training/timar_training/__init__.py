"""Offline side of TIMAR: dyadic data, synthetic conversations, the trainer and its evaluation."""
