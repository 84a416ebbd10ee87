"""`python -m trustescalate`."""

from trustescalate.cli import main

if __name__ == "__main__":
    main()
