from typing import Any

from tensorflow_probability import bijectors as bijectors
from tensorflow_probability import distributions as distributions
from tensorflow_probability import math as math

def __getattr__(name: str) -> Any: ...
