import sys

from emoshare.cli import main

sys.exit(main())
