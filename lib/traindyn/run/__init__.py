"""Execution of notebooks: one executor, the command line, the book."""
