"""Local elasticity: experiments, evidence, drawings."""

from traindyn.studies.elasticity import (
    closed_form_features,
    closed_form_flows,
    closed_form_gate,
    definition2,
    evidence,
    evidence_theory,
    example,
    figures,
    homogeneous,
    images,
    linearised,
    penalised,
    phases,
    regression,
    relu_gate,
    variants,
)

__all__ = [
    "closed_form_features",
    "closed_form_flows",
    "closed_form_gate",
    "definition2",
    "evidence",
    "evidence_theory",
    "example",
    "figures",
    "homogeneous",
    "images",
    "linearised",
    "penalised",
    "phases",
    "regression",
    "relu_gate",
    "variants",
]
