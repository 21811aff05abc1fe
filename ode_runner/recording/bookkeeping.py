"""Options that say where a run is kept and what is done with it, and do not change what it computes.

Each list is written here once; records, names of sweeps, checks of the command line and `ode-report verify` combine
them as each needs.
"""

COMMANDS = {  # asked about a run that exists, or about a model that is not to be trained: option, folder of answers
    "evaluate": "evaluations",
    "predict": "predictions",
    "export": "exports",
    "audit": "audits",
    "replay": "replays",
}
OF_COMMAND = {"predict": ("times", "inputs", "samples", "data"), "export": ("format", "part")}  # options of one alone
COMMAND_OPTIONS = tuple(option for options in OF_COMMAND.values() for option in options)
# Which runs are made, where, by whose code, and whether pictures are.
PLACEMENT = ("sweep", "rerun", "plan", "output_dir", "trust", "pictures")
ASIDE = "ODE_RUN_ASIDE"  # in the environment: the folder is soon removed, as by `ode-report verify`, and is not shown
PROCESSES = ("processes", "oversubscribe")
OBSERVERS = ("logger", "diagnostics")  # groups that watch a run
PRESETS = ("grid", "search")  # groups that name a sweep
WATCHING = {
    "trainer": ("audit_every", "animate", "pictures_every", "summary")
}  # options of groups that watch a run, too
# Options that decide nothing of a result and were not always known as such: runs are known by these values of them.
KNOWN_BY = {"trainer": {"save_every_seconds": 30}}
