"""Names of options and choices in other programs and papers, and the corresponding names here."""

CHOICES = {  # a choice here: its names elsewhere, with the group if another group uses the same name
    "model=odenet": ("neural_ode", "neuralode", "node", "neural_odes", "ode_net", "ode"),
    "model=augmented": ("anode", "augmented_node", "augmented_neural_ode", "augmented_odenet"),
    "model=second_order": ("sonode",),
    "model=cnf": ("ffjord", "continuous_normalizing_flow"),
    "model=cde": ("neural_cde", "ncde", "neuralcde"),
    "model=sde": ("neural_sde", "nsde", "neuralsde"),
    "model=coupling_flow": ("realnvp", "real_nvp", "nice"),
    "model=autoregressive_flow": ("maf", "iaf"),
    "model=spline_flow": ("nsf", "neural_spline_flow"),
    "model=odernn": ("ode_rnn",),
    "network=recurrent_vae": ("latent_ode",),
    "network=conv": ("cnn", "convnet", "convolutional"),
    "network=mlp": ("fc", "dense", "fully_connected", "feedforward"),
    "solver=dopri5": ("rk45", "ode45", "dormand_prince", "dopri54", "rkdp"),
    "solver=bosh3": ("rk23", "ode23", "bogacki_shampine"),
    "solver=rk4": ("rk", "runge_kutta", "runge_kutta4", "runge_kutta_4", "classical_rk4", "ode4"),
    "solver=euler": ("explicit_euler", "forward_euler", "euler_explicit", "euler_forward"),
    "solver=implicit_euler": ("backward_euler", "euler_backward", "euler_implicit"),
    "solver=trapezoid": ("crank_nicolson", "trapezoidal", "implicit_trapezoid"),
    "solver=leapfrog": ("verlet", "velocity_verlet", "stormer_verlet"),
    "solver=semi_implicit_euler": ("symplectic_euler", "euler_cromer"),
    "solver=bdf": ("ode15s",),
    "gradient=backprop": ("autograd", "autodiff", "bptt", "direct", "discretize_then_optimize"),
    "gradient=adjoint": ("backsolve", "odeint_adjoint", "continuous_adjoint", "optimize_then_discretize"),
    "gradient=checkpoint": ("checkpointing", "recursive_checkpoint"),
    "schedule=constant": ("schedule=none",),
    "schedule=one_cycle": ("onecycle", "onecyclelr"),
    "schedule=cosine": ("cosine_annealing", "cosineannealing", "cosineannealinglr"),
    "schedule=steps": ("step", "steplr", "multistep", "multisteplr"),
    "task=lotka_volterra": ("predator_prey", "lotka", "lv"),
}
OPTIONS = {  # an option here (with a value if only that value is meant): its names elsewhere
    "optimizer.lr": ("lr", "learning_rate", "base_lr", "eta"),
    "optimizer.momentum": ("momentum",),
    "optimizer.weight_decay": ("wd", "weight_decay", "l2"),
    "optimizer": ("optim", "opt"),
    "schedule": ("scheduler", "lr_scheduler", "lr_schedule"),
    "trainer.max_grad_norm": ("clip", "grad_clip", "clip_grad", "clip_norm", "gradient_clip_val", "clip_grad_norm"),
    "trainer.batch_size": ("batch", "bs", "batchsize", "batch_size", "train_batch_size", "minibatch"),
    "trainer.epochs": ("epochs", "epoch", "max_epochs", "num_epochs", "n_epochs", "nepochs"),
    "trainer.max_steps": ("steps", "iterations", "iters", "max_iters", "num_iterations", "niters"),
    "trainer.max_seconds": ("max_time", "max_minutes", "max_hours", "timeout", "time_limit", "budget"),
    "trainer.device": ("device", "gpu", "cuda", "accelerator", "no_cuda"),
    "trainer.precision": ("precision", "dtype", "amp", "fp16", "bf16", "fp64", "double", "mixed_precision"),
    "trainer.log_every": ("log_interval", "log_freq", "log_every_n_steps", "print_every"),
    "processes": ("gpus", "devices", "num_gpus", "num_processes", "nproc", "nproc_per_node", "world_size"),
    "plan=true": ("dry_run", "dryrun", "plan"),
    "trainer=quick": ("fast_dev_run", "debug", "smoke_test"),
    "task": ("dataset",),
    "task.data_dir": ("data_dir", "data_path"),
    "task.file": ("csv", "file", "filename", "data_file", "csv_file", "csv_path"),
    "task.time": ("time", "time_column", "time_col", "timestamp", "date_column"),
    "task.series": ("group", "group_by", "groupby", "group_column", "series_id", "id_column", "unique_id"),
    "task.values": ("values", "value_columns", "columns", "features", "targets", "target_columns"),
    "solver": ("method", "integrator"),
    "gradient=adjoint": ("adjoint",),
    "tolerance": ("tol", "rtol", "atol"),
    "solver.num_steps": ("steps", "n_steps", "nsteps", "num_steps"),
    "solver.step_size": ("dt", "h", "dt0", "stepsize", "step_size"),
    "network.width": ("hidden", "hidden_dim", "hidden_size", "n_hidden", "width"),
    "network.depth": ("layers", "num_layers", "n_layers", "depth"),
    "output_dir": ("out", "output", "out_dir", "outdir", "save_dir", "log_dir", "logdir", "results_dir"),
    "hydra.sweeper.trials": ("trials", "n_trials"),
    "hydra.sweeper.pruner=median": ("pruner", "pruning", "prune"),
    "evaluate": ("eval", "evaluation"),
    "rerun=all": ("overwrite", "force"),
    "schedule.warmup": ("warmup", "warmup_steps", "warmup_ratio", "warmup_epochs", "num_warmup_steps"),
    "logger=wandb": ("wandb", "use_wandb"),
    "logger=mlflow": ("mlflow", "use_mlflow"),
    "logger=csv": ("csv_logger", "log_csv"),
    "trainer.ema": ("ema", "ema_decay", "polyak"),
    "trainer.patience": ("patience", "early_stopping", "early_stop"),
    "trainer.accumulate": ("accumulate", "grad_accum", "accumulate_grad_batches", "gradient_accumulation_steps"),
}
NONE = {  # names of what does not exist here: what to use instead, or why it is not needed
    ("aim", "neptune", "comet"): "logger=[tensorboard,csv,mlflow,wandb] are there, and metrics.jsonl has every number",
    ("resume", "checkpoint", "ckpt", "ckpt_path", "load"): "the same command again resumes a run",
    ("num_workers", "workers", "pin_memory"): "batches come from memory",
    ("swa",): "the weights that did best on validation are kept, and trainer.ema averages them",
    ("name", "run_name", "exp_name", "experiment_name", "tag"): (
        "a run's folder is named by what is typed, and that of a sweep by sweep=NAME"
    ),
    ("jobs", "n_jobs", "num_jobs"): "hydra/launcher=local hydra.launcher.n_jobs=4 runs four cells at a time",
    ("threads", "num_threads", "n_threads"): "the environment variable OMP_NUM_THREADS says how many",
    ("verbose", "quiet", "silent", "progress"): "a progress bar is shown on a terminal only",
}


def foreign_hint(name: str) -> str:
    """A sentence for a name that other programs use: " That is trainer.epochs here." for `epochs`; "" if unknown.

    If a name stands for options of several groups, those of the group typed are preferred.
    """
    group, _, word = name.lstrip("+-~").lower().replace("-", "_").rpartition(".")
    meant = [option for option, words in OPTIONS.items() if word in words and option != name]
    if meant:
        own = [option for option in meant if group and option.startswith(f"{group}.")]
        return f" That is {' or '.join(own or meant)} here."
    return next((f" There is none: {instead}." for words, instead in NONE.items() if word in words), "")


def foreign_choice(group: str, name: str) -> str:
    """The same for a choice of a group: " That is model=odenet here." for `neural_ode`."""
    word = name.lower().replace("-", "_")
    named = [choice for choice, words in CHOICES.items() if word in words or f"{group}={word}" in words]
    named.sort(key=lambda choice: not choice.startswith(f"{group}="))
    return f" That is {named[0]} here." if named else ""
