"""The one exception that a user is meant to read, and the one error that is worth another try."""


class EmoshareError(Exception):
    """Bad input: a message of one line (or one report) that names the file, key or value and the remedy.

    The command line prints it without a traceback and exits with status 1; a notebook shows it alone.
    """

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of a traceback."""
        return [f"emoshare: {self}"]


def out_of_memory(error: BaseException) -> bool:
    """Whether memory did not suffice, of the machine or of a GPU, whichever library says so."""
    words = ("out of memory", "not enough memory", "allocate memory", "unable to allocate", "bad_alloc", "bad alloc")
    return isinstance(error, MemoryError) or any(word in str(error).lower() for word in words)
