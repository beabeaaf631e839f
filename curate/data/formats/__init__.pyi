from .arrow_files import ARROW as ARROW
from .csv_files import CSV as CSV
from .json_files import JSON as JSON
from .parquet_files import PARQUET as PARQUET
from .text_files import TEXT as TEXT
