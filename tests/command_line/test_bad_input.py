"""What cannot be done as typed is refused in one readable line, before anything is trained or left behind."""

import math
import shlex
import shutil
from contextlib import chdir
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

import ode_runner as ode
from ode_runner.building.group_types import load_class
from ode_runner.building.instantiate import construct
from ode_runner.config import hints as habits
from ode_runner.config.help import GROUPS
from ode_runner.errors import RefusedInput
from ode_runner.experiment.options import TrainerOptions
from ode_runner.models.base import Model
from tests.conftest import Compose
from tests.helpers import TINY, ode_run, options, record_of, run_folder, typed

REFUSED = {  # what was typed: what the one line must say
    "model=odnet": ["no model named 'odnet'", "Did you mean 'odenet'?", "augmented", "rknet"],
    "solver=rk5": ["no solver named 'rk5'", "Did you mean 'rk"],
    "solver=dopri": ["no solver named 'dopri'. Did you mean 'dopri5' or 'dopri8'?"],
    "model=": ["no model named ''", "odenet"],
    "optimizer.lr=-1": ["optimizer.lr must be 0 or more, not -1."],
    "experiment=none_such": ["no experiment named 'none_such'"],
    "modle=odenet": ["no option 'modle'", "Did you mean 'model'?"],
    "trainer.epoch=3": ["no option 'trainer.epoch'", "Did you mean 'trainer.epochs'?"],
    "solver.epochs=3": ["no option 'solver.epochs'", "Did you mean 'trainer.epochs'?"],
    "+trainer.epoch=3": ["no option 'trainer.epoch'", "Did you mean", "epochs"],
    "+model.widht=3": ["no option 'model.widht'. The model chosen takes no options."],
    "gradient.rtl=3": ["no option 'gradient.rtl'. ", "The gradient chosen takes no options."],
    "+foo=1": ["no option 'foo'.", "Available: task, model,", ", seed, rerun, plan, sweep, output_dir, pictures"],
    "++sede=1": ["no option 'sede'. Did you mean 'seed'?"],
    "+slover.rtol=1": ["no option 'slover.rtol'. Did you mean 'solver.rtol'?"],
    "-m +foo=1,2": ["no option 'foo'."],
    "+network.widht=3": ["no option 'network.widht'", "Did you mean", "width"],
    "~solver": ["'solver' is needed"],
    "-m solver=dopri5,rk4 solver.per_sample=true": ["solver=rk4 has no option 'solver.per_sample', which is"],
    "-m task=chirality solver=rk4,expm solver.num_steps=16": [
        "solver=expm has no option 'solver.num_steps', which is typed"
    ],
    "gradient=adjoint gradient.rtol=0": ["gradient.rtol must be positive or null, not 0."],
    "gradient=seminorm gradient.atol=-1": ["gradient.atol must be positive or null, not -1."],
    "task=tiny_table task.concentration=0": ["task.concentration must be at least 0.001, not 0."],
    "task=markov_text task.scale=1000": ["task.scale must be from 0 to 50, not 1000."],
    "task=digits_generation task.test=5": ["task.test must be at least 6, not 5."],
    "task=lotka_volterra task.horizon=1e30": ["task.horizon must be at most 1,000,000, not 1e+30."],
    "task=ou task.fine=1000000": ["task.fine=1000000 over task.horizon=2.0 makes more than 1,000,000 steps of a true"],
    "task=closed_form task.horizon=1e30": ["4e+30 steps of 0.25 lead from t=0 to 1e+30, and 10,000,000 are the most."],
    "task=ou model=exact solver.num_steps=1000000 task.horizon=900": ["10,000,000 are the most. Use longer steps."],
    "task=ou task.test=1000000000": ["task.test must be at most 10,000,000, not 1,000,000,000."],
    "task=lotka_volterra task.train=1000000000": ["task.train must be at most 10,000,000"],
    "task=density2d task.grid=100000": ["task.grid must be at most 5,000, not 100,000."],
    "task=spheres model=stacked gradient=forward network.width=4": ["55 parameters and 1,536 elements of the initial"],
    "solver=explicit_adams solver.method=abc": ["solver.method=abc is no explicit_adams or implicit_adams."],
    "solver=explicit_adams solver.order=9": [
        "is of order 3, and not 9: choose it by that name alone, and leave solver.order"
    ],
    "solver=implicit_adams solver.rtol=-1": ["solver.rtol must be positive, not -1."],
    "task=series_forecast task.time=[1]": ["task.time=[1] is no text or null."],
    "task=series task.values=[[1]]": ["task.values=[[1]] is no list of texts or null."],
    "task=series_classes task.series={}": ["task.series={} is no text."],
    "task=mnist task.data_dir=[1]": ["task.data_dir=[1] is no text or null."],
    "task=tabular_density task.bounds={a:[0,x]}": ["task.bounds={a:[0,x]} is no mapping of lists of numbers or null."],
    "task=lotka_volterra task.box=[[0,1],[0,a]]": ["task.box=[[0,1],[0,a]] is no list of lists of numbers"],
    "task=linear task.matrix=[[1,0],[0,x]]": ["task.matrix=[[1,0],[0,x]] is no list"],
    "solver.rtol=abc": ["solver.rtol=abc is no number"],
    "solver.rtol=-1": ["solver.rtol must be positive", "-1"],
    "solver.atol=0": ["solver.atol must be positive", "0"],
    "solver.rtol=null": ["solver.rtol=null is no number.\n"],
    "solver.max_steps=null": ["solver.max_steps=null is no whole number.\n"],
    "optimizer.lr=abc": ["optimizer.lr=abc is no number.\n"],
    "optimizer=sgd +optimizer.nesterov=[1]": ["optimizer.nesterov=[1] is no true or false.\n"],
    "+optimizer.betas=0.9": ["optimizer.betas=0.9 is no list.\n"],
    "schedule=steps schedule.milestones=60": ["schedule.milestones=60 is no list.\n"],
    "trainer.epochs=0": ["trainer.epochs must be at least 1, not 0"],
    "trainer.ema=1": ["trainer.ema must be above 0 and below 1, such as 0.999, or null, not 1."],
    "trainer.ema=0": ["trainer.ema must be above 0 and below 1"],
    "trainer.ema=true": ["trainer.ema=true is no number or null"],
    "trainer.animate=1": ["trainer.animate=1 is no true or false"],
    "trainer.max_seconds=0": ["trainer.max_seconds must be positive or null, not 0"],
    "trainer.save_every_seconds=-1": ["trainer.save_every_seconds must be 0 or more, not -1"],
    "schedule=steps schedule.milestones=[-1]": ["schedule.milestones must be epochs, 0 or more, not [-1]"],
    "schedule=one_cycle schedule.warmup=1": ["schedule.warmup must be a fraction from 0 to below 1"],
    "schedule=onecycle": ["no schedule named 'onecycle'. That is schedule=one_cycle here."],
    "ema=0.9": ["no option 'ema'. Did you mean 'trainer.ema'?"],
    "trainer.epochs=-5": ["trainer.epochs must be at least 1, not -5"],
    "trainer.epochs=abc": ["trainer.epochs=abc is no whole number"],
    "trainer.epochs=1.5": ["trainer.epochs=1.5 is no whole number"],
    "trainer.epochs=": ["trainer.epochs= is no whole number"],
    "trainer.batch_size=0": ["trainer.batch_size must be at least 1"],
    "trainer.log_every=0": ["trainer.log_every must be at least 1"],
    "trainer.max_steps=0": ["trainer.max_steps must be at least 1"],
    "trainer.max_seconds=-1": ["trainer.max_seconds must be positive"],
    "trainer.max_grad_norm=0": ["trainer.max_grad_norm must be positive"],
    "trainer.precision=fp8": ["trainer.precision=fp8 is no fp32 or tf32"],
    "trainer.device=gpu": ["trainer.device=gpu is no auto or cpu or cuda"],
    "network.width=0": ["network.width must be at least 1"],
    "task.noise=-1": ["task.noise must be 0 or more"],
    "task.train=0": ["task.train must be at least 2"],
    "task=digits task.validation=1797": ["task.validation=1797", "1797 images"],
    "model=augmented model.extra=0": ["model.extra must be at least 1", "model=odenet"],
    "model=resnet model.blocks=-1": ["model.blocks must be 0 or more"],
    "seed=-1": ["seed=-1 is no whole number from 0"],
    "seed=x": ["seed=x is no whole number from 0", "Several are typed as -m seed=0,1,2."],
    "seed=1.5": ["seed=1.5 is no whole number from 0"],
    "rerun=maybe": ["rerun=maybe is neither true nor false", "missing, failed, all"],
    "output_dir=": ["output_dir= is no folder"],
    "model=rknet solver=dopri5": ["model=rknet takes a fixed-step explicit Runge-Kutta solver", "Use solver=euler"],
    "model=rknet gradient=adjoint": ["gradient=adjoint", "exact", "Use gradient=backprop, or model=odenet"],
    "gradient=seminorm solver=rk4": ["gradient=seminorm needs an adaptive solver", "Use solver=dopri5"],
    "task=pairs model=one_shot network=mlp": [
        "model=one_shot sets network.expansion, network.time, and network=mlp has no such options. Use network=trans"
    ],
    "task=density2d model=flow_matching network=linear": [
        "task=density2d with model=flow_matching sets network.width, and network=linear has no such option. Use "
    ],
    "network=conv task=half_moons": ["network=conv needs images", "Use network=mlp"],
    "solver=rk4 solver.step_size=0.1 solver.num_steps=4": [
        "num_steps=4",
        "step_size=0.1",
        "exactly one",
        "Type solver.num_steps=4, or solver.step_size=0.1 solver.num_steps=null.",
    ],
    "solver=rk4 solver.num_steps=null": ["exactly one", "Type solver.num_steps=20"],
    "solver=rk4 solver.num_steps=0": ["solver.num_steps must be at least 1"],
    "trainer.epochs=[1": ["cannot read 'trainer.epochs=[1'", "key=value"],
    "foo": ["cannot read 'foo'", "key=value"],
    "plan": ["cannot read 'plan'. That is plan=true here."],
    "inputs=the░": ["inputs=the░ is for predict=RUN_FOLDER. Leave it out."],
    "task.name=a░": ["cannot read 'task.name=a░'. Type 'task.name=\"a░\"'."],
    "evaluate": ["cannot read 'evaluate'. Type evaluate=VALUE."],
    "help": ["cannot read 'help'. Type --help."],
    "=rk4": ["cannot read '=rk4': there is nothing before the =. Type key=value."],
    "model=model/odenet": ["model=model/odenet: model/ is the group. Type model=odenet."],
    "logger=[csv,logger/wandb]": ["logger/ is the group. Type logger=wandb."],
    "task=density2d model=odenet": ["task=density2d asks for a log density, and model=odenet gives", "Use ", "cnf"],
    "task=half_moons model=cde": [
        "model=cde reads the rows of a series to answer about it, and task=half_moons gives a"
    ],
    "solver=implicit_adams regularizer=kinetic": ["regularizer=kinetic is an integral along the solve"],
    "task=half_moons optimizer=gauss_newton": ["optimizer=gauss_newton takes a loss that is a mean of squares"],
    "gradient=forward": ["gradient=forward needs a direction for each of the field's 4,546 parameters and 0 elements"],
    "model=resnet trainer.compile=on": ["trainer.compile=on: the model solves nothing. Use trainer.compile=off."],
    "model=hybrid": ["model=hybrid needs a task with events. Use task=bouncing_ball or thermostat."],
    "task=series task.file=torn": ["task.file=torn: that is a folder. Type its path, or one that comes with us: hare"],
    "task=series task.file=/torn": ["/torn: there is no such file. Type its path, or one that comes with us: hare_"],
    "model=odenet,resnet": ["model=odenet,resnet names several values", "-m"],
    "-m model=odnet,resnet": ["no model named 'odnet'", "Did you mean 'odenet'?"],
    "-m rerun=maybe seed=0,1": ["rerun=maybe is neither true nor false"],
    "-m output_dir= seed=0,1": ["output_dir= is no folder"],
    "output_dir=a_file": ["cannot write to a_file", "output_dir=FOLDER"],
    "-cd nowhere": ["-cd names the folder '", "nowhere', which does not exist."],
    "-cd": ["expected one argument"],
    "hydra.searchpath=[file://nowhere]": ["hydra.searchpath names the folder 'nowhere', which does not exist"],
    "--frobnicate": ["unrecognized arguments: --frobnicate", "--help"],
    "--cfg jbo": ["invalid choice: 'jbo'", "job"],
    "solver=rk4 solver.per_sample=true": ["It belongs to solver=adaptive_heun, ", "Available: solver.num_steps,"],
    "solver=rk4 solver.control=pi": ["no option 'solver.control'. It belongs to solver=", "solver=radau_iia5"],
    "solver=rk4 solver.rtol=1e-3": ["no option 'solver.rtol'. It belongs to solver=adaptive_heun, "],
    "solver.num_steps=4": ["It belongs to solver=ab2, ", " more: see ode-run --help. Available: solver.control, "],
    "diagnostics.every=2": ["no option 'diagnostics.every'. It belongs to diagnostics=depth, diagnostics=flow."],
    "solver=mccallum_foster solver.base=heun": ["solver.base=heun is no", "solver@solver.base=NAME"],
    "solver=mccallum_foster solver.base.num_steps=x": ["solver.base.num_steps=x is no whole number or null."],
    "solver=mccallum_foster +solver.base.steps=3": ["no option 'solver.base.steps'.", "num_steps"],
    "solver=mccallum_foster solver.base.step_size=2": ["solver.base.num_steps=4 solver.base.step_size=2: a fixed-step"],
    "task=images task.transforms=[0]": ["task.transforms=[0] is no list of objects, such as {_target_:"],
    "solver=mccallum_foster solver@solver.base=dopri5": [
        "solver.base takes an explicit Runge-Kutta method of fixed step, and dopri5 is",
        "Use solver@solver.base=",
        "rk4",
    ],
    "evaluate=nowhere": ["evaluate=nowhere is no run folder: there is no such folder."],
    "replay=a_fil": ["replay=a_fil is no run folder"],
    "hydra/sweeper=search": ["hydra/sweeper=search is for several runs. Add -m"],
    "'a\nb'": [r"cannot read 'a\nb'"],
    "model=\x1b[31m": [r"\x1b[31m"],
    "regularizer=[]": ["'regularizer' is needed and cannot be removed. Type regularizer=none for no regularizer."],
    "diagnostics=[]": ["'diagnostics' is needed and cannot be removed. Type diagnostics=none for no diagnostics."],
    "solver=[]": ["'solver' is needed and cannot be removed. Available: "],
    "experiment=[]": ["no experiment is chosen unless one is typed. Leave it out."],
    "~logger": ["~logger: 'logger' is needed and cannot be removed. Type logger=none for no logger."],
    "logger=null": ["logger=null: 'logger' is needed", "Type logger=none"],
    "~diagnostics": ["'diagnostics' is needed", "Type diagnostics=none"],
    "diagnostics=null": ["Type diagnostics=none"],
    "~optimizer": ["'optimizer' is needed and cannot be removed. Available: adam, adamw, gauss_newton, sgd"],
    "~optimizer=adam": ["'optimizer' is needed"],
    "~schedule": ["'schedule' is needed", "Available: constant, cosine, inverse_sqrt, linear"],
    "~task=1": ["'task' is needed", "half_moons"],
    "task=null": ["'task' is needed", "half_moons"],
    "-m task=null,linear": ["'task' is needed"],
    "~experiment=1": ["~experiment=1 names no experiment. Leave it out."],
    "~hydra/launcher=[1] --cfg job": ["names no hydra/launcher"],
    "~hydra=1 --cfg job": ["~hydra=1 names no hydra. Leave it out."],
    "~seed": ["'seed' is needed"],
    "~tolerance": ["'tolerance' is needed"],
    "search=[1]": ["search=[1] names no search. Available: digits,"],
    "+hydra=1": ["+hydra=1: options of Hydra have names with a dot, as hydra.verbose=true."],
    "~hydra": ["options of Hydra have names with a dot"],
    "model=augmented model.extra=9223372036854775807": ["model.extra must be at most 100,000"],
    "model=input_layer model.extra=9223372036854775807": ["model.extra must be at most 100,000"],
    "model=input_layer model.extra=0": ["model.extra must be at least 1", "model=odenet"],
    "model=data_controlled model.control=9223372036854775807": ["model.control must be at most 100,000"],
    "grid=nan": ["grid=nan names no grid. Available: equal_work, gradients,"],
    "optimizer=${oc.select:a}": ["optimizer=${oc.select:a} names no optimizer. Available: adam, adamw,"],
    "-m task=${model},mnist": ["names no task. Available: "],
    "trainer=1e3": ["trainer=1e3 names no trainer. Available: default, quick"],
    "experiment=[[1]]": ["names no experiment"],
    "-m seed=range(1,10,0)": ["seed=range(1,10,0): the step of a range, its third number, must not be 0."],
    "-m seed=range(-1,100000)": ["names more than 100,000 values"],
    "-m seed=range(0,100000000000)": ["names more than 100,000 values"],
    "tolerance=${tolerance}": ["tolerance: Recursive interpolation detected.\n"],
    "trainer.epochs=${nope}": ["trainer.epochs: Interpolation key 'nope' not found.\n"],
    "optimizer.lr=???": ["optimizer.lr is missing. Add optimizer.lr=..."],
    "gradient=adjoint gradient.rtol=???": ["gradient.rtol is missing"],
    "+trainer.foo=???": ["no option 'trainer.foo'"],
    "tolerance=???": ["Missing mandatory value: tolerance."],
    "grid=null": ["grid=null: no grid is chosen unless one is typed. Leave it out."],
    "model=resnet model.blocks=2147483648": ["model.blocks must be at most 100,000, not 2147483648"],
    "network.depth=2147483648": ["network.depth must be at most 100,000"],
    "hydra/launcher=0 --cfg job": ["hydra/launcher=0 names no hydra/launcher. Available: "],
    "hydra/sweeper=[1] --cfg job": ["names no hydra/sweeper"],
    "grid=[null]": ["grid=[null] names no grid"],
    "+predict=1": ["+predict=1: type it without the +."],
    "hydra.verbose=nan": ["hydra.verbose=nan is neither true nor false"],
    "hydra.verbose=[1]": ["hydra.verbose=[1]: its list is of names of loggers, as hydra.verbose=[ode_runner]"],
    "seed=${hydra:runtime.cwd}": ["is no whole number from 0"],
    "output_dir=${folder:run}": ["cannot read output_dir=${folder:run}: a value in ${...}"],
    "optimizer.lr=${.}": ["cannot read optimizer.lr=${.}: a value in ${...} is misspelt"],
    "trainer.epochs=${oc.decode:\\'[\\'}": ["cannot read trainer.epochs="],
    "optimizer.lr=true": ["optimizer.lr=true is no number"],
    "optimizer.lr=nan": ["optimizer.lr=nan is no finite number"],
    "optimizer.lr=inf": ["optimizer.lr=inf is no finite number"],
    "+optimizer.betas=[true,0.9]": ["is no list of numbers"],
    "optimizer=sgd optimizer.momentum=5": ["optimizer.momentum must be at least 0 and below 1, not 5."],
    "optimizer=sgd optimizer.momentum=-0.5": ["optimizer.momentum must be at least 0 and below 1, not -0.5."],
    "optimizer=sgd optimizer.weight_decay=-1": ["optimizer.weight_decay must be 0 or more, not -1."],
    "optimizer=sgd optimizer.momentum=0 +optimizer.nesterov=true": ["optimizer.nesterov=true needs optimizer.momentum"],
    "+optimizer.eps=-1e-8": ["optimizer.eps must be 0 or more, not -1e-08."],
    "+optimizer.betas=[0.9,1.0]": ["optimizer.betas must be two numbers, each at least 0 and below 1, such as [0.9,"],
    "+optimizer.betas=[0.9]": ["optimizer.betas must be two numbers", "not [0.9]."],
    "+optimizer.foreach=true": ["optimizer: `fused` and `foreach` cannot"],
    "+optimizer.fused=true": ["there is an option optimizer.fused. Type optimizer.fused=VALUE, without the +."],
    "optimizer.lr=\\'1\\'": ["optimizer.lr='1' is no number"],
    "seed=[1,null]": ["seed=[1,null] is no whole number"],
    "seed={a:true}": ["seed={a:true} is no whole number"],
    "output_dir=true": ["output_dir=true is no folder"],
    "trust=abc": ["trust=abc is for runs that are opened, as by evaluate=RUN_FOLDER. Leave it out."],
    "trust=null evaluate=torn": ["evaluate=torn is no run folder"],
    "rerun=null": ["rerun=null is neither true nor false"],
    "oversubscribe=null": ["oversubscribe=null is neither true nor false"],
    "plan=null": ["plan=null is neither true nor false"],
    "-m hydra/sweeper=search hydra.sweeper.trials=true seed=1,2": ["hydra.sweeper.trials=true is no whole number"],
    "-m evaluate=A,B": ["evaluate=A,B names 2 runs, and one is taken at a time. Type evaluate=A first."],
    "predict=A,B,C": ["predict=A,B,C names 3 runs", "Type predict=A first."],
    "-m replay=range(2)": ["replay=range(2) names 2 runs"],
    "-m audit=choice(A,B) solver=rk4,euler": ["audit=choice(A,B) names 2 runs"],
    "trainer.batch_size=true": ["trainer.batch_size=true is no whole number"],
    "trainer.max_seconds=true": ["trainer.max_seconds=true is no number"],
    "trainer.batch_size=9223372036854775808": ["is beyond the whole numbers of 64 bits"],
    "trainer.save_every_seconds=nan": ["is no finite number"],
    "task.noise=inf": ["task.noise=inf is no finite number"],
    "task=lotka_volterra task.box=[[0,true],[0,1]]": ["task.box=[[0,true],[0,1]] is no list of numbers"],
    "seed=true": ["seed=true is no whole number"],
    "tolerance=0": ["tolerance=0 is no number above 0"],
    "tolerance=true": ["tolerance=true is no number above 0"],
    "tolerance=true solver=rk4": ["tolerance=true is no number above 0"],
    "processes=true": ["processes=true is no whole number"],
    "solver=rk4 solver.num_steps=9223372036854775808": ["is beyond the whole numbers of 64 bits"],
    "solver=rk4 solver.num_steps=9223372036854775807": ["more than 1,000,000 steps per unit of time"],
    "solver=rk4 solver.step_size=1e-320": ["solver.step_size=1e-320 makes more than 1,000,000 steps"],
    "logger=[tensorboard,csvv]": ["no logger named 'csvv'. Did you mean 'csv'?"],
    "logger=[csv,none]": ["logger=[csv,none]: none is for no logger at all. Type logger=csv."],
    "regularizer=[none,kinetic,steer]": ["none is for no regularizer at all. Type regularizer=[kinetic,steer]."],
    "logger=[csv,tensorboard,csv]": ["names one logger twice. Type logger=[csv,tensorboard]."],
    "patience=3": ["Did you mean 'trainer.patience'?"],
    "trainer.early_stopping=3": ["no option 'trainer.early_stopping'. That is trainer.patience here."],
    "+trainer.early_stopping=3": ["no option 'trainer.early_stopping'. That is trainer.patience here."],
    "trainer.clip=1": ["That is trainer.max_grad_norm here."],
    "clip=1": ["That is trainer.max_grad_norm here."],
    "lr=1": ["optimizer.lr"],
    "batch=1": ["That is trainer.batch_size here."],
    "epochs=1": ["trainer.epochs"],
    "wandb=true": ["That is logger=wandb here."],
    "--dry-run": ["unrecognized arguments: --dry-run. That is plan=true here."],
    "--epochs=3": ["That is trainer.epochs here.", "typed as key=value"],
    "dry_run=true": ["That is plan=true here."],
    "task=mnist task.data_dir=torn": ["torn/MNIST/raw/train-images-idx3-ubyte is damaged", "task.data_dir"],
}

FIRST = (  # what people meet first: a choice, a name or a value mistyped, and two choices that do not go together
    *("model=odnet", "solver=rk5", "model=", "schedule=onecycle", "logger=[tensorboard,csvv]", "+foo=1"),
    *("modle=odenet", "trainer.epoch=3", "epochs=1", "lr=1", "solver.num_steps=4"),
    *("trainer.epochs=abc", "optimizer.lr=-1", "solver.rtol=abc", "network.width=0", "seed=x", "trainer.device=gpu"),
    *("foo", "model=odenet,resnet", "evaluate=nowhere", "tolerance=0", "-m seed=range(-1,100000)"),
    *(
        "network=conv task=half_moons",
        "model=rknet solver=dopri5",
        "model=rknet gradient=adjoint",
        "gradient=seminorm solver=rk4",
    ),
    *("solver=implicit_adams regularizer=kinetic", "task=half_moons optimizer=gauss_newton"),
    *("model=resnet trainer.compile=on", "gradient=forward"),
)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where the commands are typed: it has a file, and a damaged copy of MNIST."""
    (tmp_path / "a_file").touch()
    raw = tmp_path / "torn" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        for kind in ("images-idx3", "labels-idx1"):
            (raw / f"{part}-{kind}-ubyte").write_text("a download that broke off")
    return tmp_path


def assert_refused(returncode: int, stdout: str, stderr: str, fragments: list[str]) -> None:
    assert returncode == 2
    assert stdout == ""
    assert stderr.startswith("ode-run: ")
    assert stderr.count("\n") == 1, "one line"
    assert "Traceback" not in stderr
    assert "raised while" not in stderr
    assert len(stderr) < 600
    for fragment in fragments:
        assert fragment in stderr


def test_options_of_training_are_refused_beyond_their_bounds_and_not_at_them(composed: Compose) -> None:
    trainer: TrainerOptions = construct(composed(), "trainer")
    counts = ("epochs", "batch_size", "eval_batch_size", "log_every", "audit_every", "max_steps", "max_nfe")
    beyond: dict[str, tuple[object, ...]] = dict.fromkeys((*counts, "patience", "accumulate", "pictures_every"), (0,))
    beyond |= dict.fromkeys(("max_grad_norm", "max_seconds"), (0, math.inf, math.nan)) | {"save_every_seconds": (-1,)}
    beyond |= {"ema": (0, 1), "accumulate": (trainer.batch_size + 1,), "device": ("cuda:", "gpu")}
    for name, values in beyond.items():
        for value in values:
            with pytest.raises(RefusedInput, match=f"trainer.{name}"):
                replace(trainer, **{name: value})  # type: ignore[arg-type]
    least = dict.fromkeys((*counts, "patience", "pictures_every"), 1) | {"max_grad_norm": 1e-9, "max_seconds": 1e-9}
    made = replace(trainer, **least, save_every_seconds=0, ema=1e-9, accumulate=1, device="cuda:1")  # type: ignore[arg-type]
    assert made.spent(step=0, seconds=0, nfe=0) == ""
    for used in ({"step": 1}, {"seconds": 1e-9}, {"nfe": 1}):
        [option] = [f"trainer.max_{name.replace('step', 'steps')}=" for name in used]
        assert made.spent(**({"step": 0, "seconds": 0.0, "nfe": 0} | used)).startswith(f"ended by {option}")  # type: ignore[arg-type]


def test_what_people_meet_first_is_refused_in_one_line_that_says_why(tmp_path: Path) -> None:
    """All of these in every quick suite, of all below a sample."""
    for line in FIRST:
        ended = typed(*shlex.split(line), cwd=tmp_path)
        assert_refused(ended.returncode, ended.stdout, ended.stderr, REFUSED[line])
    assert not list(tmp_path.iterdir())


def test_a_debugger_changes_no_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under one OmegaConf keeps the causes of its errors, as with this variable."""
    monkeypatch.setenv("OC_CAUSE", "1")
    ended = typed("seed=x", cwd=tmp_path)
    assert_refused(ended.returncode, ended.stdout, ended.stderr, REFUSED["seed=x"])


@pytest.mark.sampled(10)
@pytest.mark.parametrize("line", REFUSED)
def test_is_refused_in_one_line_that_says_why(line: str, place: Path) -> None:
    ended = typed(*shlex.split(line), cwd=place)
    assert_refused(ended.returncode, ended.stdout, ended.stderr, REFUSED[line])
    assert not list(place.glob("outputs/*"))


def test_what_habits_lead_to_exists(composed: Compose) -> None:
    with_images = composed("task=mnist", "solver=rk4", "hydra/sweeper=search")
    with_series = composed("task=series")
    for option in habits.OPTIONS:
        name, _, value = option.partition("=")
        known = [OmegaConf.select(cfg, name, default=habits) is not habits for cfg in (with_images, with_series)]
        assert any(known), option
        assert not value or name not in GROUPS or value in options(name), option


def test_a_list_stands_for_a_tuple(composed: Compose) -> None:
    weights = [torch.zeros(1, requires_grad=True)]
    optimizer = construct(composed("+optimizer.betas=[0.8,0.9]"), "optimizer", weights)
    assert list(optimizer.defaults["betas"]) == [0.8, 0.9]


@pytest.mark.parametrize("word", ["zzz=1", "trainer.zzz=1", "gpsu=1", "trainer.speed=1"])
def test_nothing_far_fetched_is_suggested(word: str, place: Path) -> None:
    assert "Did you mean" not in typed(word, cwd=place).stderr


def test_tolerances_of_the_way_back_are_refused_on_a_fixed_grid_before_data_is_made(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ode_runner.tasks.points.half_moons.make_moons", None)
    ended = typed("solver=rk4", "gradient=adjoint", "gradient.rtol=1e-4", cwd=place)
    expected = ["gradient.rtol", "need an adaptive solver", "use solver=dopri5"]
    assert_refused(ended.returncode, ended.stdout, ended.stderr, expected)
    assert not list(place.glob("outputs/*"))


@pytest.mark.slow
def test_the_installed_program_refuses_alike(place: Path) -> None:
    finished = ode_run("solver.rtol=-1", cwd=place)
    assert_refused(finished.returncode, finished.stdout, finished.stderr, REFUSED["solver.rtol=-1"])
    assert not list(place.glob("outputs/*"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_refused(place: Path) -> None:
    ended = typed("trainer.device=cuda", cwd=place)
    expected = ["trainer.device=cuda is not available here", "Use trainer.device=auto"]
    assert_refused(ended.returncode, ended.stdout, ended.stderr, expected)


def test_missing_mnist_names_the_ways_out(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*positional: object, **named: object) -> None:
        raise RuntimeError(
            "Error downloading train-images-idx3-ubyte.gz:\n"
            "Tried https://one/, got:\n<urlopen error timed out>\n"
            "Tried http://two/, got:\n<urlopen error [Errno -2] Name or service not known>\n"
        )

    monkeypatch.setattr("ode_runner.tasks.images.mnist_files.MNIST", offline)
    monkeypatch.delenv("ODE_RUN_DATA", raising=False)
    ended = typed("task=mnist", "task.data_dir=a_place", cwd=place)
    cause = "(Error downloading train-images-idx3-ubyte.gz: <urlopen error [Errno -2] Name or service not known>)"
    expected = ["MNIST is not in a_place", cause, "a_place/MNIST/raw", "ODE_RUN_DATA", "task=digits"]
    assert_refused(ended.returncode, ended.stdout, ended.stderr, expected)


def test_a_refused_rerun_keeps_the_results_it_was_to_replace(place: Path) -> None:
    command = ("trainer=quick", "trainer.max_steps=1", "logger=none", *TINY)
    assert typed(*command, cwd=place).returncode == 0
    before = record_of(place)
    assert typed(*command, "rerun=flase", cwd=place).returncode == 2
    assert record_of(place) == before
    assert (run_folder(place) / "checkpoints" / "best.pt").is_file()


@pytest.mark.sampled(1)
@pytest.mark.parametrize("refused", ["task", "logger", "task without checkpoints"])
def test_a_rerun_refused_when_it_is_built_leaves_the_completed_run_as_it_was(
    refused: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*positional: object, **named: object) -> None:
        raise RefusedInput("the data are gone")

    def files() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in run_folder(place).glob("*.*") if path.is_file()}

    command = ("trainer=quick", "trainer.max_steps=1", "logger=none", *TINY)
    assert typed(*command, cwd=place).returncode == 0
    if "without" in refused:  # somebody needed the room
        shutil.rmtree(run_folder(place) / "checkpoints")
    before = files()
    if "task" in refused:
        monkeypatch.setattr("ode_runner.tasks.points.half_moons.HalfMoons.__init__", gone)
    bad = "+logger.flush=true" if refused == "logger" else "logger=none"
    assert typed(*command, bad, "rerun=true", cwd=place).returncode == 2
    assert files() == before
    monkeypatch.undo()
    assert "already completed" in typed(*command, cwd=place).stdout


@pytest.mark.parametrize("line", ["trainer.epochs=0", "optimizer.lr=-1", "plan=true", "audit=true model=resnet"])
def test_a_folder_of_ones_own_is_never_removed(line: str, place: Path) -> None:
    (place / "mine").mkdir()
    (place / "mine" / "thesis.tex").write_text("all of it")
    typed(*shlex.split(line), "hydra.run.dir=mine", cwd=place)
    assert (place / "mine" / "thesis.tex").read_text() == "all of it"


@pytest.mark.sampled(2)
@pytest.mark.parametrize("line", ["trainer.epochs=0", "plan=true", "audit=true model=resnet"])
def test_empty_folders_of_ones_own_are_kept(line: str, place: Path) -> None:
    """A refusal, or a plan, removes the folders that the command has made, and no others."""
    words = shlex.split(line)
    mine = place / "mine" / "empty"
    mine.mkdir(parents=True)
    for named in ("mine/empty", "mine/empty/new/run"):
        typed(*words, f"hydra.run.dir={named}", cwd=place)
        assert not [*mine.iterdir()]
    task = place / "outputs" / "half_moons"
    task.mkdir(parents=True)
    typed(*words, cwd=place)
    assert not [*task.iterdir()]
    task.rmdir()
    typed(*words, cwd=place)
    assert not [*(place / "outputs").iterdir()], "the folder of the task was made by this command"
    with chdir(place), pytest.raises(RefusedInput):
        ode.train("trainer.epochs=0", "hydra.run.dir=mine/empty")
    assert not [*mine.iterdir()]


def test_refusing_a_run_keeps_other_runs_of_its_task(place: Path) -> None:
    assert typed("trainer=quick", "trainer.max_steps=1", "logger=none", *TINY, cwd=place).returncode == 0
    assert typed("trainer.epochs=0", cwd=place).returncode == 2
    assert record_of(place)["status"] == "completed"


def test_options_of_a_users_model_are_suggested_too(place: Path) -> None:
    (place / "conf" / "model").mkdir(parents=True)
    (place / "conf" / "model" / "wormhole.yaml").write_text("_target_: my.Wormhole\nthroat: 3\n")
    for folder in (["-cd", "conf"], ["hydra.searchpath=[file://conf]"]):
        ended = typed(*folder, "model=wormhole", "model.throta=4", cwd=place)
        assert_refused(ended.returncode, ended.stdout, ended.stderr, ["Did you mean 'model.throat'?"])


@pytest.mark.parametrize(
    ("target", "says"),
    [
        (
            "nowhere.Mine",
            "cannot load nowhere.Mine (ModuleNotFoundError: No module named 'nowhere'). Modules of one's own",
        ),
        ("collections.Mine", "cannot load collections.Mine"),
        ("broken_module.Mine", "cannot load broken_module.Mine (SyntaxError"),
    ],
)
def test_a_class_that_cannot_be_loaded_is_named(target: str, says: str, place: Path) -> None:
    (place / "broken_module.py").write_text("def (\n")
    (place / "conf" / "model").mkdir(parents=True)
    (place / "conf" / "model" / "mine.yaml").write_text(f"_target_: {target}\n")
    ended = typed("-cd", "conf", "model=mine", cwd=place)
    assert_refused(ended.returncode, ended.stdout, ended.stderr, ["model: ", says])


def test_a_module_of_this_folder_that_a_script_of_another_does_not_find_is_said_to_be_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The advice was to type the command in its folder, which was this one; and Hydra logged an error of its own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "unsearched_module.py").write_text("")
    with pytest.raises(RefusedInput, match=r"unsearched_module\.py is in this folder.*PYTHONPATH=\. before python"):
        load_class("unsearched_module.Mine", (Model,), "model")
    assert not caplog.records
