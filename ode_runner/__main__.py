"""`python -m ode_runner` does the same as `ode-run`."""

from ode_runner.cli import main

if __name__ == "__main__":  # multiprocessing imports this module in each worker: no second command there
    main()
