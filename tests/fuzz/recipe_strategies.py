"""Recipes drawn from the parameters of all components, and what else people and machines write into one."""

from __future__ import annotations

import json
import math
import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
import yaml
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

import augmenters
import curate.clusterers
import scorers
from curate.gate.gate import Gate
from curate.proxy.budget import ForecastSettings
from curate.proxy.proxy import Proxy
from tests.fuzz.harness import hostile_text, mostly

__all__ = ["CHEAP", "ROWS", "cheap_recipes", "components", "damaged", "plain_values", "recipes", "rows_file", "texts"]

ROWS = 40
Strategy = st.SearchStrategy[Any]


def rows_file() -> str:
    """JSON Lines of rows that every part of a recipe can work on."""
    rows = [
        {
            "id": f"row{k}",
            "prompt": f"Add {k} and {k % 7}.",
            "completion": f"That is {k + k % 7}. " * (k % 5 + 1),
            "final_answer": str(k + k % 7),
            "source": "ab"[k % 2],
            "split": "train",
            "level": k % 3,
        }
        for k in range(ROWS)
    ]
    return "".join(json.dumps(row) + "\n" for row in rows)


# -- from the declared parameters ---------------------------------------------------------------------------------

_DATA = st.just("rows.jsonl")
CHEAP = ("Length",)
_BY_PROXY = (
    "EarlyOutput",
    "ErrorNorm",
    "FinalLoss",
    "InstructionFollowingDifficulty",
    "LossTrajectory",
    "SAMSharpness",
)


def components(names: tuple[str, ...], module: Any, **fixed: Strategy) -> Strategy:
    """One of the components by these names, with some of its parameters given. fixed: strategies by Name_parameter."""
    return st.sampled_from(names).flatmap(lambda name: component(getattr(module, name), fixed))


def component(kind: type[BaseModel], fixed: dict[str, Strategy] | None = None) -> Strategy:
    """`use:` and parameters that the constructor takes, where all of them are plain."""
    fields = parameters(kind, fixed or {})
    return fields.filter(lambda given: _constructs(kind, given)).map(lambda given: {"use": kind.__name__, **given})


def parameters(kind: type[BaseModel], fixed: dict[str, Strategy]) -> Strategy:
    required, optional = {}, {}
    for name, field in kind.model_fields.items():
        chosen = fixed.get(f"{kind.__name__}_{name}", _SPECIAL.get((kind.__name__, name)))
        strategy = chosen if chosen is not None else values(field.annotation, field.metadata)
        if strategy is not None:
            (required if field.is_required() or chosen is not None else optional)[name] = strategy
    return st.fixed_dictionaries(required, optional=optional)


def _constructs(kind: type[BaseModel], given: dict[str, Any]) -> bool:
    try:
        kind(**{name: _Object() if isinstance(value, dict | list) else value for name, value in given.items()})
    except ValidationError as error:
        # About one of the stand-ins, not about how the parameters go together.
        return any(isinstance(each["input"], _Object) for each in error.errors())
    return True


class _Object:
    """Stands in for a component that the recipe holds by name."""


def values(annotation: Any, metadata: Any = ()) -> Strategy | None:
    """Plain values of a declared type within its bounds; None where the type says too little."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        more = [each for item in inner[1:] for each in (item.metadata if isinstance(item, FieldInfo) else [item])]
        return values(inner[0], [*metadata, *more])
    if origin is Literal:
        return st.sampled_from(inner)
    if origin in (Union, types.UnionType):
        known = [each for each in (values(part, metadata) for part in inner) if each is not None]
        return st.one_of(known) if known else None
    if origin is tuple and len(inner) == 2 and inner[1] is Ellipsis:
        items = values(inner[0])
        return None if items is None else st.lists(items, min_size=1, max_size=3)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return parameters(annotation, {})
    simple: dict[Any, Strategy] = {
        bool: st.booleans(),
        type(None): st.none(),
        int: _whole(metadata),
        float: _real(metadata),
    }
    return simple.get(annotation)


def _bounds(metadata: Any) -> tuple[float, float, bool]:
    """Lowest and highest value, and whether the lowest itself is excluded."""
    low, high, open_ = -math.inf, math.inf, False
    for each in metadata:
        if isinstance(each, annotated_types.Ge):
            low = each.ge
        elif isinstance(each, annotated_types.Gt):
            low, open_ = each.gt, True
        elif isinstance(each, annotated_types.Le):
            high = each.le
        elif isinstance(each, annotated_types.Lt):
            high = math.nextafter(each.lt, -math.inf)
    return low, high, open_


def _whole(metadata: Any) -> Strategy:
    low, high, open_ = _bounds(metadata)
    least = 0 if low == -math.inf else int(low) + open_
    return st.integers(least, min(least + 20, math.floor(high)) if high < math.inf else least + 20)


def _real(metadata: Any) -> Strategy:
    low, high, open_ = _bounds(metadata)
    least = -10.0 if low == -math.inf else low + 1e-3 * open_
    return st.floats(least, min(high, 100.0))


_STEPS = st.one_of(st.integers(4, 40), st.sampled_from(["1 epoch", "2 epochs", "1/2 epoch"]))
_SPECIAL: dict[tuple[str, str], Strategy] = {
    ("Proxy", "model"): st.just("scratch"),
    ("Proxy", "steps"): _STEPS,
    ("Proxy", "spacing"): st.just("even"),  # on the other, few steps have no checkpoints
    ("Proxy", "horizon"): st.sampled_from(["3 epochs", 400, "100 epochs"]),
    ("Proxy", "checkpoints"): st.integers(2, 4),
    ("Proxy", "min_steps"): st.integers(4, 40),
    ("Proxy", "score_sample"): st.one_of(st.none(), st.integers(10, 200)),
    ("Proxy", "score_budget"): st.one_of(st.none(), st.integers(10**6, 10**9)),  # of one pass over the rows and more
    ("Proxy", "trust_remote_code"): st.just(False),
    ("Proxy", "template"): st.sampled_from(["auto", "alpaca", "plain"]),
    ("ForecastSettings", "steps"): st.one_of(st.integers(2, 60), st.sampled_from(["1 epoch", "3 epochs"])),
    ("ForecastSettings", "model"): st.sampled_from([None, "1.5B", "350M", "scratch"]),
    ("ForecastSettings", "accept_cost"): st.just(True),  # or there is a question
    ("EarlyOutput", "within"): st.floats(0.5, 1.0),
    ("GradientAlignment", "target"): _DATA,
    ("Replay", "data"): _DATA,
    ("Duplicate", "noise_guard"): st.just(0.0),  # of a scorer that has losses only
    ("Duplicate", "of"): st.sampled_from(["hard", "random", "easy"]),  # "matched" needs tokens, which not all count
    ("Duplicate", "times"): st.integers(1, 5),  # "auto" needs a forecast beside it
    # Trains two proxies more.
    **{(name, "only"): st.none() for name in ("Duplicate", "Subset", "Synthesize")},
    ("Subset", "drop"): st.none(),
    ("Subset", "epochs"): st.just(1),  # of more, the recipe may have neither order nor copies
    ("Replay", "share"): st.floats(0.01, 0.02),
    ("Replay", "columns"): st.sampled_from([None, "prompt=prompt,completion=completion"]),
    ("Replay", "shape"): st.sampled_from([None, "prompt_completion"]),
    ("Replay", "where"): st.sampled_from([None, "split=train", "level!=2,source=a"]),
    ("Replay", "split"): st.none(),
    ("Replay", "config"): st.none(),
    ("Subset", "size"): st.one_of(st.integers(2, ROWS), st.floats(0.1, 1.0)),
    ("KMeans", "n_clusters"): st.integers(2, 5),
    ("HDBSCAN", "min_cluster_size"): st.one_of(st.integers(5, 9), st.floats(0.05, 0.2)),
    ("Threshold", "value"): st.floats(0, 60),
    ("Synthesize", "generator"): st.just({"use": "VLLMServer", "model": "some", "url": "http://127.0.0.1:9"}),
    ("Synthesize", "samples"): st.integers(6, 9),
    ("Synthesize", "band"): st.sampled_from([[1, 5], [2, 2], [1, 6]]),
    ("Synthesize", "variation_sampling"): st.just({}),
    ("Synthesize", "solution_sampling"): st.just({"max_tokens": 200, "top_p": 0.9}),
    ("Synthesize", "run_programs"): st.just(False),
    ("Synthesize", "second_route"): st.sampled_from(["auto", "text"]),
    ("Gate", "evaluation"): st.lists(_DATA, max_size=1),
    ("Gate", "ngrams"): st.sampled_from([[8, 13], [2], [5]]),
}


def _scorers(names: tuple[str, ...]) -> Strategy:
    single = components(names, scorers)
    many = st.lists(single, min_size=1, max_size=3)
    of = st.sampled_from(["ranks", "scores"])
    together = st.fixed_dictionaries({"use": st.just("Product"), "scorers": many}, optional={"of": of})
    weighed = many.flatmap(
        lambda some: st.fixed_dictionaries(
            {"use": st.just("RankAverage"), "scorers": st.just(some)},
            optional={"weights": st.lists(st.floats(0.1, 9), min_size=len(some), max_size=len(some))},
        )
    )
    return st.one_of(single, single, together, weighed)


def _clusterers() -> Strategy:
    single = components(("KMeans", "HDBSCAN", "Quantile"), curate.clusterers)
    inner = single.map(lambda given: {name: value for name, value in given.items() if name != "per"})
    per_source = st.fixed_dictionaries({"use": st.just("PerSource"), "clusterer": inner})
    return st.one_of(single, single, per_source)


def _recipe(scorer: Strategy, names: tuple[str, ...]) -> Strategy:
    return st.fixed_dictionaries(
        {
            "proxy": parameters(Proxy, {}).filter(lambda given: _constructs(Proxy, given)),
            "scorer": scorer,
            "clusterer": _clusterers(),
        },
        optional={
            "hard": st.sampled_from(["highest", "above_mean", 1]),
            "augmenters": st.lists(components(names, augmenters), max_size=2),
            "order": st.sampled_from(["shuffle", "keep", "front"]),
            "copies": st.sampled_from(["rows", "weights"]),
            "seed": st.integers(0, 2**31),
            "stability": st.integers(1, 3),
            "gate": parameters(Gate, {}).filter(lambda given: _constructs(Gate, given)),
        },
    )


def recipes() -> Strategy:
    """Mappings that `curate plan` must take; with a forecast, copies may be shown as often as it says."""
    some = _recipe(_scorers((*CHEAP, *_BY_PROXY)), ("Duplicate", "Replay", "Subset", "Synthesize"))
    forecasts = parameters(ForecastSettings, {})
    foretold = st.tuples(some, forecasts, st.booleans()).map(lambda drawn: _with_forecast(*drawn))
    return st.one_of(some, foretold)


def _with_forecast(recipe: dict[str, Any], forecast: dict[str, Any], auto: bool) -> dict[str, Any]:
    augmenters = recipe.get("augmenters", [])
    shown = [{**each, "times": "auto"} if auto and each["use"] == "Duplicate" else each for each in augmenters]
    return {**recipe, "forecast": forecast} | ({"augmenters": shown} if "augmenters" in recipe else {})


def cheap_recipes() -> Strategy:
    """Mappings that `curate run` must take, and that train nothing."""
    return _recipe(_scorers(CHEAP), ("Duplicate", "Replay"))


# -- and beyond them ----------------------------------------------------------------------------------------------


def plain_values() -> Strategy:
    """Whatever YAML and JSON can say."""
    leaves = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.integers(-(2**70), 2**70),
        st.floats(),
        hostile_text(),
        st.sampled_from([0, -1, 10**12, 2**63 - 1, 1e308, 1e-308, "rows.jsonl", "scratch", "Length", "1/0 epoch", ""]),
        st.sampled_from(
            ["-1 epochs", "1e9 epochs", "nan epochs", "curate.cli.main", "sklearn.cluster.DBSCAN", "/dev/zero"]
        ),
    )
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.dictionaries(st.one_of(hostile_text(), st.just("use")), inner, max_size=3)
        ),
        max_leaves=6,
    )


@st.composite
def damaged(draw: st.DrawFn, whole: Strategy) -> Any:
    """A value with up to three of its parts replaced, removed, renamed or added."""
    value = json.loads(json.dumps(draw(whole)))
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(value))
        if not places:
            return draw(plain_values())
        holder, key = draw(st.sampled_from(places))
        change = draw(st.integers(0, 5))
        if change == 0:
            del holder[key]
        elif change == 1 and isinstance(holder, dict):
            holder[draw(st.one_of(hostile_text(), st.sampled_from(["use", "version", "model", "per"])))] = holder.pop(
                key
            )
        elif change == 2 and isinstance(holder, dict):
            holder[draw(hostile_text())] = draw(plain_values())
        else:
            holder[key] = draw(plain_values())
    return value


def _places(value: Any) -> Any:
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in list(entries):
        yield value, key
        yield from _places(item)


def texts(mapping: Strategy) -> Strategy:
    """Bytes of a YAML file: mostly of the mapping, sometimes cut, spliced or anything at all."""
    written = mapping.map(_written)
    spliced = st.tuples(written, st.integers(0, 10**6), st.integers(0, 9), hostile_text()).map(_spliced)
    return mostly(mostly(written, spliced), st.one_of(st.binary(max_size=60), hostile_text().map(_encoded)))


def _written(value: Any) -> bytes:
    try:
        return yaml.safe_dump(value, sort_keys=False).encode()
    except (yaml.YAMLError, UnicodeEncodeError):
        return json.dumps(value).encode()


def _spliced(parts: tuple[bytes, int, int, str]) -> bytes:
    text, place, length, new = parts
    at = place % (len(text) + 1)
    return text[:at] + _encoded(new) + text[at + length :]


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
