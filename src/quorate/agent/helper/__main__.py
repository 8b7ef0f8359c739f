"""`python -m quorate.agent.helper`: the root helper, by itself."""

import sys

from quorate.agent.helper.server import main

sys.exit(main())
