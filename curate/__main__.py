"""`python -m curate`: the command line, where no script is on the path."""

import sys

from curate.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
