"""The classes of the launchers that sweeps distinguish, by name."""

# Names instead of classes: Hydra loads the modules of its plugins again, so that a class imported here is not the one
# that it instantiates. And some may not be installed.
BASIC_LAUNCHER = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
JOBLIB_LAUNCHER = "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher"  # several cells on one machine
SLURM_LAUNCHER = "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher"
