"""``python -m cubes``, the same as the command ``cubes``."""

from cubes.cli import main

if __name__ == "__main__":
    main()
