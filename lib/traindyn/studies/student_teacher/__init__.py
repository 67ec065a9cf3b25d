"""Student-teacher alignment: experiments, evidence, drawings."""

from traindyn.studies.student_teacher import (
    angles,
    critical,
    deep,
    evidence,
    figures,
    flows,
    images,
    interpolation,
    observers,
    relus,
    rule,
    students,
    tables,
    tasks,
    teachers,
    variants,
)

__all__ = [
    "angles",
    "critical",
    "deep",
    "evidence",
    "figures",
    "flows",
    "images",
    "interpolation",
    "observers",
    "relus",
    "rule",
    "students",
    "tables",
    "tasks",
    "teachers",
    "variants",
]
