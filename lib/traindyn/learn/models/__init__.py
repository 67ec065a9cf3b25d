"""Networks of the book, each in an explicit parameterisation, each with `reset(generator)`; Taylor models."""

from traindyn.learn.models.base import Network, drawn
from traindyn.learn.models.dense_conv import CNN, FCN, Myrtle5, TwoLayer
from traindyn.learn.models.residual import ResNet, ResNet18, WideResNet
from traindyn.learn.models.vit import ViT

__all__ = ["CNN", "FCN", "Myrtle5", "Network", "ResNet", "ResNet18", "TwoLayer", "ViT", "WideResNet", "drawn"]
