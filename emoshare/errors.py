"""The one exception that a user is meant to read."""


class EmoshareError(Exception):
    """Bad input: a message of one line (or one report) that names the file, key or value and the remedy.

    The command line prints it without a traceback and exits with status 1.
    """
