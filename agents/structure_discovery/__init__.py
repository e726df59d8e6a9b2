"""From a stack of AFM images to a molecule, in the loop (Alldritt et al., Sci. Adv. 6, eaay6913 (2020))."""
