"""python -m fewscan."""

from fewscan.cli import main

if __name__ == "__main__":
    main()
