"""A Nanonis controller (Mimea, Tramea, BP5 and their kin) by its TCP programming interface.

Nothing here was ever tried on a real controller: it was written from the protocol document and tested against the
gateway of this package and a scripted controller that misbehaves. What the document leaves open, and an owner has to
look at before the first use, has an option or a check: the order of rows and pixels in the data of a frame
(``frame_order``), the sense of the z sweep (``z_sweep_sign``), which way the coarse motor retracts
(``motor_retracts``), and the form of errors (``error_dialect``). The rest is listed in docs/nanonis.md.
"""

from twinscope.drivers.nanonis.driver import Nanonis as Nanonis
