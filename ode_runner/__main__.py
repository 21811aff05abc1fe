"""`python -m ode_runner`, which is `ode-run`."""

from ode_runner.cli import main

if __name__ == "__main__":  # and not where a helper process loads this module to find what it is to do
    main()
