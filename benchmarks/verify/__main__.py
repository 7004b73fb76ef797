"""`python -m benchmarks.verify`."""

import sys

from benchmarks.verify.command import main

sys.exit(main())
