"""Recorded measurements as an instrument."""
