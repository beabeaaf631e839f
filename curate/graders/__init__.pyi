from .choice import Choice as Choice
from .exact import Exact as Exact
from .json import JSON as JSON
from .math import Math as Math
from .tests import Tests as Tests
