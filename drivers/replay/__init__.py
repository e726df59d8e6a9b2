"""Recorded measurements as an instrument."""

from twinscope.drivers.replay.driver import Replay as Replay
