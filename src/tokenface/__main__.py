"""`python -m tokenface`."""

from tokenface.cli import main

if __name__ == "__main__":
    main()
