"""`python -m resnest_zoo` is the command `resnest-zoo`."""

import sys

from resnest_zoo.cli import main

sys.exit(main())
