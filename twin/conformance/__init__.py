"""The conformance suite: what every driver has to do, as tests that run on any of them.

``pytest --twinscope-driver=NAME`` runs it, see docs/drivers.md; it needs pytest. The plugin is
:mod:`twinscope.conformance.plugin`, the tests are in :mod:`twinscope.conformance.checks`.
"""
