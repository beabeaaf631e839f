"""The page of protocols: every plug point of the library can be asked for, and its own components fit."""

import curate
import curate.protocols as protocols
from augmenters import Duplicate
from curate.clusterers import KMeans
from curate.generators import Transformers
from curate.graders import Exact
from curate.proxy.measures import MeanLoss
from curate.reweighters import DynamicLoss
from scorers import LossTrajectory

OWN = {
    "Augmenter": Duplicate(),
    "Clusterer": KMeans(),
    "Generator": Transformers(model="m"),
    "Grader": Exact(),
    "Measure": MeanLoss(),
    "Reweighter": DynamicLoss(),
    "Scorer": LossTrajectory(),
}


def test_a_component_of_each_kind_fits_and_nothing_else_does() -> None:
    assert set(OWN) == set(protocols.__all__)
    for name, component in OWN.items():
        assert isinstance(component, getattr(protocols, name))
        assert not isinstance(object(), getattr(protocols, name))


def test_packages_that_users_are_sent_to_are_attributes_of_curate() -> None:
    names = {"checks", "clusterers", "generators", "graders", "optimizers", "protocols", "reweighters", "verify"}
    assert names <= {*curate.__all__}
    assert all(getattr(curate, name).__name__ == f"curate.{name}" for name in names)
