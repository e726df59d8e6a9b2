"""The tests of the suite; the docstring of each says what the driver interface asks for."""
