"""The trainer: `fit` trains one network, or many at once over seeds and learning rates, with probes on the way."""

from traindyn.learn.train.fitting import fit
from traindyn.learn.train.loop import Stop
from traindyn.learn.train.probes import Probe, State, error_on, loss_on, weight_distance
from traindyn.learn.train.result import Run
from traindyn.learn.train.schedules import Cyclical

__all__ = ["Cyclical", "Probe", "Run", "State", "Stop", "error_on", "fit", "loss_on", "weight_distance"]
