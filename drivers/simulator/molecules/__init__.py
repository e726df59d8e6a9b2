"""Geometries that come with twinscope, and :mod:`generate`, which made them."""
