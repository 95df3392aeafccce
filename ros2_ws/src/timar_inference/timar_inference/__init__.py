"""Runs TIMAR on the conversation clock: forms turns, generates head motion, logs every decision."""
