"""Robust estimates of noise."""

MEDIAN_TO_SIGMA = 1.4826
"""From the median of absolute values to the standard deviation of a normal distribution."""
