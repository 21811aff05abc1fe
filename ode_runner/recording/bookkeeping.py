"""Options that say where a run is stored and what is done with it, and do not change what it computes.

Each list is defined here once. Records, names of sweeps, checks of the command line and `ode-report verify` combine
them.
"""

COMMANDS = {  # questions about an existing run or an untrained model: the option, and the folder of results
    "evaluate": "evaluations",
    "predict": "predictions",
    "export": "exports",
    "audit": "audits",
    "replay": "replays",
    "hypersolve": "hypersolvers",
}
COMMAND_OPTIONS = {  # options of commands, and those that read each
    "times": ("predict",),
    "inputs": ("predict",),
    "samples": ("predict",),
    "data": ("predict",),
    "format": ("export",),
    "part": ("export",),
    "correction_width": ("hypersolve",),
    "correction_steps": ("hypersolve",),
    "correction_samples": ("hypersolve",),
    "correction": ("evaluate", "predict"),
}
# Options that say which runs are made, where, with whose code, and whether pictures are drawn.
PLACEMENT = ("sweep", "rerun", "plan", "output_dir", "trust", "pictures")
ASIDE = "ODE_RUN_ASIDE"  # environment variable: the run folder is temporary (`ode-report verify`) and not printed
PROCESSES = ("processes", "oversubscribe")
OBSERVERS = ("logger", "diagnostics")  # groups that watch a run
PRESETS = ("grid", "search")  # groups that name a sweep
WATCHING = {
    "trainer": ("audit_every", "animate", "pictures_every", "summary")
}  # options of groups that watch a run, too
# Options that do not affect the result but were once part of fingerprints: fingerprints use these values of them.
KNOWN_BY = {"trainer": {"save_every_seconds": 30}}
