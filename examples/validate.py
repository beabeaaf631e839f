"""Did curation help? Compare the original data, curated data and a control.

python examples/validate.py rows.parquet proof
"""

import argparse

from curate import Finetuning, Pipeline, Validation, validate

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("data")
parser.add_argument("out")
parser.add_argument("--model", default="scratch", help="hub id, folder, GGUF file, or scratch")
parser.add_argument("--seeds", type=int, default=3)
parser.add_argument("--epochs", type=float, default=3.0)
parser.add_argument("--steps", type=int, default=300, help="optimizer steps of the proxy")
options = parser.parse_args()

settings = Validation(
    pipeline=Pipeline.from_recipe("quick", settings=["proxy.model=scratch", f"proxy.steps={options.steps}"]),
    finetuning=Finetuning(model=options.model),
    arms=("original", "hard", "random"),
    seeds=tuple(range(options.seeds)),
    epochs=options.epochs,
    budgets=("steps",),
)
record = validate(options.data, settings, options.out)
for each in record["comparison"]["differences"]:
    if each["primary"]:
        print(f"{each['arm']} against {each['baseline']}: {each['difference']:+.4f} {each['metric']}")
print(f"report: {options.out}/report.html")
