"""Files that can be replayed: one module per format, which returns what it finds in SI units."""

from twinscope.drivers.replay.readers.reading import FORMATS as FORMATS
from twinscope.drivers.replay.readers.reading import read_recording as read_recording

__all__ = ["FORMATS", "read_recording"]
