"""What is wrong with a dataset, how bad it is, and what to do: `check` looks, the other files each know one kind."""

from autoseg.data.checks.finding import Finding, Findings, Fix, Picture, Severity
from autoseg.data.checks.loading import load_image, load_pair
from autoseg.data.checks.run import check

__all__ = ["Finding", "Findings", "Fix", "Picture", "Severity", "check", "load_image", "load_pair"]
