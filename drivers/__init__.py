"""What stands behind the microscope API: the driver interface, its registry and the built-in drivers.

Only this page and :mod:`twinscope.drivers.registry` are for the instrument; a driver imports
:mod:`twinscope.drivers.base` and :mod:`twinscope.drivers.options`.
"""
