"""Neural networks that make maps of image stacks."""
