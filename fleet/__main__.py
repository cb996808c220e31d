"""``python -m fleet``: the ``rlfleet`` command, where it is not on the path."""

from fleet.cli import main

if __name__ == "__main__":
    main()
