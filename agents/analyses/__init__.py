"""What measurements show: analyses that take an array, a file, or a scan that still runs."""
