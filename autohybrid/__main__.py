"""``python -m autohybrid``."""

from autohybrid.cli import main

if __name__ == "__main__":
    main()
