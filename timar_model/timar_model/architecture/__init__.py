"""The published network and its streaming variant: configuration, tokens, attention, heads, training."""
