"""`python -m boxrl`: the same as the `boxrl` command."""

import sys

from boxrl.cli import main

sys.exit(main())
