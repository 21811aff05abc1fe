"""Names that other programs give to options, and what the option is called here."""

OPTIONS = {  # an option here, with its value where only that is meant: its names elsewhere
    "optimizer.lr": ("lr", "learning_rate", "base_lr", "eta"),
    "optimizer.momentum": ("momentum",),
    "optimizer.weight_decay": ("wd", "weight_decay", "l2"),
    "optimizer": ("optim", "opt"),
    "schedule": ("scheduler", "lr_scheduler", "lr_schedule"),
    "trainer.max_grad_norm": ("clip", "grad_clip", "clip_grad", "clip_norm", "gradient_clip_val", "clip_grad_norm"),
    "trainer.batch_size": ("batch", "bs", "batchsize", "batch_size", "train_batch_size", "minibatch"),
    "trainer.epochs": ("epochs", "epoch", "max_epochs", "num_epochs", "n_epochs", "nepochs"),
    "trainer.max_steps": ("steps", "iterations", "iters", "max_iters", "num_iterations", "niters"),
    "trainer.device": ("device", "gpu", "cuda", "accelerator", "no_cuda"),
    "trainer.precision": ("precision", "dtype", "amp", "fp16", "bf16", "fp64", "double", "mixed_precision"),
    "trainer.log_every": ("log_interval", "log_freq", "log_every_n_steps", "print_every"),
    "processes": ("gpus", "devices", "num_gpus", "num_processes", "nproc", "nproc_per_node", "world_size"),
    "plan=true": ("dry_run", "dryrun", "plan"),
    "trainer=quick": ("fast_dev_run", "debug", "smoke_test"),
    "task": ("dataset",),
    "task.data_dir": ("data_dir", "data_path"),
    "solver": ("method", "integrator"),
    "gradient=adjoint": ("adjoint",),
    "tolerance": ("tol", "rtol", "atol"),
    "network.width": ("hidden", "hidden_dim", "hidden_size", "n_hidden", "width"),
    "network.depth": ("layers", "num_layers", "n_layers", "depth"),
    "output_dir": ("out", "output", "out_dir", "outdir", "save_dir", "log_dir", "logdir", "results_dir"),
    "hydra.sweeper.trials": ("trials", "n_trials"),
    "hydra.sweeper.pruner=median": ("pruner", "pruning", "prune"),
    "rerun=all": ("overwrite", "force"),
    "schedule=constant": ("schedule=none",),
    "schedule=one_cycle": ("schedule=onecycle", "schedule=onecyclelr"),
    "schedule.warmup": ("warmup", "warmup_steps", "warmup_ratio", "warmup_epochs", "num_warmup_steps"),
    "logger=wandb": ("wandb", "use_wandb"),
    "logger=mlflow": ("mlflow", "use_mlflow"),
    "logger=csv": ("csv_logger", "log_csv"),
    "trainer.ema": ("ema", "ema_decay", "polyak"),
    "trainer.patience": ("patience", "early_stopping", "early_stop"),
    "trainer.accumulate": ("accumulate", "grad_accum", "accumulate_grad_batches", "gradient_accumulation_steps"),
}
NONE = {  # names of what does not exist here: what does the same, or why it is not needed
    ("aim", "neptune", "comet"): "logger=[tensorboard,csv,mlflow,wandb] are there, and metrics.jsonl has every number",
    ("resume", "checkpoint", "ckpt", "ckpt_path", "load"): "the same command again resumes a run",
    ("num_workers", "workers", "pin_memory"): "batches come from memory",
    ("swa",): "the weights that did best on validation are kept, and trainer.ema averages them",
    ("verbose", "quiet", "silent", "progress"): "a progress bar is shown on a terminal only",
}


def foreign_hint(name: str) -> str:
    """A sentence for a name that other programs use: " That is trainer.epochs here." for `epochs`; "" where unknown."""
    word = name.lstrip("+-~").rpartition(".")[2].lower().replace("-", "_")
    for option, words in OPTIONS.items():
        if word in words and option != name:
            return f" That is {option} here."
    return next((f" There is none: {instead}." for words, instead in NONE.items() if word in words), "")
