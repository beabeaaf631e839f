from .hdbscan import HDBSCAN as HDBSCAN
from .kmeans import KMeans as KMeans
from .per_source import PerSource as PerSource
from .thresholds import Quantile as Quantile
from .thresholds import Threshold as Threshold
