"""``python -m twinscope`` is ``twinscope``."""

import sys

from twinscope.cli import main

sys.exit(main())
