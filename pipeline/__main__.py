"""`python -m pipeline` is `mobilenet`."""

import sys

from pipeline.local import interruption


def main() -> int:
    """Run the command line as a process of its own, and return the exit code."""
    try:
        interruption.listen()  # before the imports, which take most of the time of a short command
        from pipeline.cli import main as run

        code = run()
        interruption.settle(code)
    except BaseException:
        interruption.leave_if_interrupted()
        raise
    return code


if __name__ == "__main__":
    sys.exit(main())
