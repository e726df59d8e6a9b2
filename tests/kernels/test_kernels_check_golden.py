"""All cases of the golden data, by the program that lies beside them; `make check-golden` runs the same."""

import re
import subprocess
import sys
from dataclasses import dataclass

import h5py
import pytest

from .conftest import GOLDEN
