"""The digital twin: a simulated non-contact AFM with a probe-particle tip."""

from twinscope.drivers.simulator.driver import Simulator as Simulator
