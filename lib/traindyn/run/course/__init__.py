"""Assignments that grade themselves: a judge that never runs a student's code, and a worker that runs nothing else."""
