"""Experiments of single chapters: short functions that train and measure."""
