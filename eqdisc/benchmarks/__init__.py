"""Experiments: what the numbers in the README and in the documentation of the code come from. Nothing in a fit imports them."""
