"""Training dynamics of over-parameterised networks: the library under the book.

Three rooms stand side by side and never import one another: `learn` (what is trained), `measure` (what is read off a
network) and `report` (from numbers to a verdict). `studies` are the chapters' experiments and drawings; `run`
executes notebooks.
"""

__version__ = "0.1.0"
