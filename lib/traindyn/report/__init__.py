"""From numbers to a verdict: chapters, claims, figures and provenance."""
