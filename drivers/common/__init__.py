"""What the drivers of this package share."""
