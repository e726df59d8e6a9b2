"""From maps to a molecule: atoms as peaks, bonds between them, files for other programs, and scores."""
