import sys

from emoshare.command.cli import main

sys.exit(main())
