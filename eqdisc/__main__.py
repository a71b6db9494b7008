"""`python -m eqdisc` is the command line where no script is on the path."""

from .cli import run

if __name__ == "__main__":
    run()
