"""`python -m jangin`."""

from jangin.cli import main

if __name__ == "__main__":
    main()
