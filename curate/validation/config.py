"""Settings of a validation: arms, training and evaluation sets."""

from __future__ import annotations

import re
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from curate.component import Component
from curate.dataset_reference import Reading
from curate.errors import InputError, suggestion
from curate.evaluation.config import Evaluation, EvaluationSet
from curate.finetuning.config import BUDGETS, Budget, Finetuning
from curate.optimizers.sam import takes_two_gradients
from curate.pipeline import Pipeline

BASELINE = "original"
# Arm -> the control (see `curate.mixture.control_rows`) whose rows replace the hard arm's extra rows.
CONTROLS = {"random": "random", "random-matched": "matched", "easy": "easy", "final-loss": "final_loss"}
DRAWN = frozenset(["random", "random-matched", "easy"])  # random controls, redrawn for every seed
SYNTHETIC = ("synthesis", "duplicates-synthesis")
SHARP = ("sam", "f-sam")  # two gradients per step
REDUCIBLE, SOURCE_BALANCED, FRONT = "reducible", "source-balanced", "front"
NAMED_ONLY = (FRONT, REDUCIBLE, SOURCE_BALANCED, "f-sam")  # arms trained only if named
ARMS = (BASELINE, "hard", *CONTROLS, *SYNTHETIC, "sam", *NAMED_ONLY)
_ARM = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.+-]{0,60}$")


class Addition(Reading):
    """A user-defined arm: a dataset unchanged, or the result of another recipe on the data.

    data: anything that `curate.read` accepts by name, and how it is read. recipe: run with its own scorer, clusterer
        and augmenters.
    """

    name: str = Field(pattern=_ARM.pattern)
    data: str | None = None
    recipe: Pipeline | None = None

    # Options added after the first release of validation records.
    added: ClassVar[frozenset[str]] = frozenset(Reading.model_fields) - {"columns", "shape"}

    @model_validator(mode="after")
    def _one(self) -> Addition:
        if (self.data is None) == (self.recipe is None):
            raise ValueError(f"arm {self.name}: give a dataset or a recipe, one of them")
        if self.name in ARMS:
            raise ValueError(f"arm {self.name} is built in; choose another name")
        return self


# Prefixes of a reweighter's name: on the data of the arm `hard`, and of the arm `front`.
_BESIDE_HARD, _BESIDE_FRONT = "hard+", "front+"


class Validation(Component):
    """How a recipe is validated. Every arm is one fine-tuned model per seed; the baseline is the original data.

    pipeline: the recipe. Its Duplicate makes the arm `hard`, its Synthesize the arms `synthesis` and (with Duplicate)
        `duplicates-synthesis`.
    finetuning: of every run; steps and seed are set here, and the arm `sam` wraps its optimizer in SAM.
    evaluation: of every run, on all `sets`; without sets, on rows held out of the data.
    arms: names from ARMS; None = all that the recipe allows. The baseline is always included.
        original: the original data. hard: with the recipe's copies. random: as many extra rows, drawn from all rows.
        random-matched: drawn from rows that are not hard, matched in source and length. easy: drawn from rows
        that are not hard. final-loss: those with the highest loss at the proxy's end. All of these but the first have
        exactly the same number of rows.
        sam: the original data with two gradients per step; not available if the optimizer of `finetuning` takes two
        itself. Trained only if named: front: the copies of `hard` as weights in the first half of the steps, each row
        once afterwards. reducible: copies only of hard rows that a model learns from the other rows; left out, with a
        warning, if these are unknown. source-balanced: as many copies as `hard` has, given to the smallest sources so
        that sources become as equal as possible. f-sam: like sam, with functional SAM.
    reweighters: name -> reweighter (see `curate.reweighters`). Each makes two arms: NAME, on the original data, and
        hard+NAME, on the data of the arm `hard`, whose rows it weights; and, if named, front+NAME, whose weights
        are multiplied by those of the arm `front`.
    additions: user-defined arms.
    budgets: "steps" = every arm trains for as many optimizer steps as the arm `hard` takes for its epochs; "epochs" =
        every arm makes the same number of passes over its own rows, for `original`, `hard` and additions.
    epochs: passes of the arm `hard` over its rows.
    seeds: of fine-tuning and of the random controls.
    held_out: share of the rows (at most 1,000) held out for evaluation if there are no sets; more, up to 30 %, if
        that leaves fewer than 20 questions.
    drop_contaminated: leave out rows that share text with an evaluation set, instead of only counting them.
    rho: radius of SAM in the arm `sam`.
    pilot: a run before all others, on the original rows and with a seed that no arm uses, whose held-out curves
        forecast whether copies help: see `curate.validation.pilot`. "auto" = if it costs less than a twentieth
        of the runs, and they do not run on workers.
    stop_if: "hopeless" = stop if the pilot forecasts that no number of copies lowers the loss on the
        mixture, even by the better bound of its intervals. Such forecasts were right too rarely for a verdict.
    keep_weights: False = delete the weights of a run once it is evaluated, which rules out adding sets later.
    """

    pipeline: Pipeline
    finetuning: Finetuning
    evaluation: Evaluation = Field(default_factory=Evaluation)
    sets: tuple[EvaluationSet, ...] = ()
    arms: tuple[str, ...] | None = None
    reweighters: dict[str, Any] = Field(default_factory=dict)
    additions: tuple[Addition, ...] = ()
    budgets: tuple[Budget, ...] = BUDGETS
    epochs: float = Field(default=3.0, gt=0, description="passes over the hard arm's rows")
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    held_out: float = Field(default=0.1, gt=0, lt=1, description="share of DATA, without --evaluation")
    drop_contaminated: bool = Field(
        default=False, description="leave out rows of DATA that are also in an evaluation set"
    )
    rho: float = Field(default=0.05, gt=0, description="radius of the arm sam")
    keep_weights: bool = True
    pilot: Literal["auto", "always", "never"] = Field(
        default="auto", description="a first run that predicts whether copies help (auto: below 5 % of the runs)"
    )
    stop_if: Literal["hopeless"] | None = Field(
        default=None, description="stop after the pilot if it predicts that no number of copies helps"
    )

    added: ClassVar[frozenset[str]] = frozenset(["pilot", "stop_if"])

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("a seed is given twice; give every seed once")
        return seeds

    @field_validator("budgets")
    @classmethod
    def _some(cls, budgets: tuple[Budget, ...]) -> tuple[Budget, ...]:
        if "steps" not in budgets:
            raise ValueError("arms are compared at equal steps in any case; give steps or steps,epochs")
        return budgets

    @model_validator(mode="after")
    def _as_rows(self) -> Validation:
        recipes = [self.pipeline, *(addition.recipe for addition in self.additions if addition.recipe is not None)]
        if any(recipe.copies == "weights" for recipe in recipes):
            raise ValueError(
                "arms are trained on copies as rows, not on weights; leave copies: weights out of the recipe, "
                "or pass --set copies=rows"
            )
        if any(getattr(part, "epochs", 1) > 1 for recipe in recipes for part in recipe.augmenters):
            raise ValueError("arms are trained on shuffled rows, which mixes those of several epochs; leave out epochs")
        if any(recipe.order == "front" for recipe in recipes):
            raise ValueError(
                "arms are trained on shuffled rows, which undoes order: front; leave it out of the recipe, or pass "
                "--set order=shuffle"
            )
        return self

    @model_validator(mode="after")
    def _known(self) -> Validation:
        names = [evaluation_set.title for evaluation_set in self.sets]
        if len(set(names)) < len(names):
            raise ValueError("two evaluation sets have one name; write NAME=DATA")
        if "pooled" in names:
            raise ValueError("an evaluation set is named 'pooled', the name of all sets together; write NAME=DATA")
        additions = [addition.name for addition in self.additions]
        if len(set(additions)) < len(additions):
            raise ValueError("two arms have one name; choose another")
        for name in self.reweighters:
            if not _ARM.fullmatch(name) or name in (*ARMS, *additions):
                raise ValueError(f"a reweighter cannot be called {name!r}; choose a name of letters that no arm has")
        arms = (*ARMS, *self._online())
        for name in self.arms or ():
            if name not in arms:
                raise ValueError(_unknown_arm(name, arms))
        self.named_arms()
        return self

    @model_validator(mode="after")
    def _pilot_of_copies(self) -> Validation:
        if self.stop_if and self.pilot == "never":
            raise ValueError("--stop-if goes by the pilot; leave out --pilot never")
        if (self.stop_if or self.pilot == "always") and not copying(self.pipeline):
            raise ValueError(f"a pilot forecasts what copies do, and {_NO_COPIES.split(';')[0]}; leave it out")
        return self

    def _online(self) -> dict[str, str]:
        """Arm with a reweighter -> the arm whose data it trains on."""
        alone = dict.fromkeys(self.reweighters, BASELINE)
        beside_hard = {f"{_BESIDE_HARD}{name}": "hard" for name in self.reweighters}
        return alone | beside_hard | {f"{_BESIDE_FRONT}{name}": FRONT for name in self.reweighters}

    def data_arm(self, name: str) -> str:
        """The arm whose data the arm `name` trains on: another one if only the training differs."""
        return self._online().get(name, BASELINE if name in SHARP else name)

    def reweighter(self, arm: str) -> Any:
        """The reweighter of an arm, usually None."""
        if arm not in self._online():
            return None
        return self.reweighters.get(arm.removeprefix(_BESIDE_HARD).removeprefix(_BESIDE_FRONT))

    def named_arms(self) -> tuple[str, ...]:
        """Arms in the order in which they are trained, additions last. Raises InputError if one is impossible."""
        copies, writes = copying(self.pipeline), synthesizing(self.pipeline)
        copied = ("hard", FRONT, REDUCIBLE, SOURCE_BALANCED, *CONTROLS)
        lacks = dict.fromkeys(copied, _NO_COPIES) if not copies else {}
        if copies and not _can_filter(copies):
            lacks[REDUCIBLE] = _FILTERED
        lacks |= dict.fromkeys(SYNTHETIC, _NO_GENERATOR) if not writes else {}
        lacks |= {"duplicates-synthesis": _NO_COPIES} if writes and not copies else {}
        lacks |= dict.fromkeys(SHARP, _SHARP) if takes_two_gradients(self.finetuning.optimizer) else {}
        arms = (*ARMS, *self._online())
        lacks |= {name: _NO_COPIES for name in arms if self.data_arm(name) in ("hard", FRONT) and not copies}
        if self.arms is None:
            named_only = (*NAMED_ONLY, *(name for name in arms if self.data_arm(name) == FRONT))
            chosen = [name for name in arms if name not in lacks and name not in named_only]
        else:
            chosen = [name for name in arms if name in self.arms or name == BASELINE]
        for name in chosen:
            if name in lacks:
                raise InputError(f"arm {name}: {lacks[name]}")
        if len(chosen) + len(self.additions) < 2:
            raise InputError(f"there is no arm to compare with {BASELINE}; name one of {', '.join(ARMS[1:])}")
        return (*chosen, *(addition.name for addition in self.additions))


_NO_COPIES = "the recipe copies no hard rows; use one with Duplicate, such as quick, or leave the arm out"
_FILTERED = (
    "the recipe's copies are of reducible rows already, or its augmenter cannot tell them apart; use Duplicate without "
    "only, or leave the arm out"
)
_SHARP = "the optimizer of all arms takes two gradients a step already; choose adamw or muon, or leave the arm out"
_NO_GENERATOR = "the recipe writes no new rows; name a model that does with --generator, or leave the arm out"


def _unknown_arm(name: str, arms: tuple[str, ...]) -> str:
    def parts(text: str) -> list[str]:
        return sorted(part.strip().lower().replace("_", "-") for part in text.split("+"))

    same = [arm for arm in arms if parts(arm) == parts(name)]  # such as f-SAM, or adapt+front
    hint = suggestion(same[0] if same else name, arms, f"arms are {', '.join(arms)}")
    return f"there is no arm {name!r}; {hint}"


def copying(pipeline: Pipeline) -> list[Any]:
    """The augmenters that copy hard rows and can copy those of a control instead."""
    components = [
        augmenter for augmenter in pipeline.augmenters if isinstance(augmenter, Component) and not _writes(augmenter)
    ]
    drawing = [component for component in components if {"of", "draw"} <= set(type(component).model_fields)]
    return [component for component in drawing if getattr(component, "of", None) == "hard"]


def _can_filter(copies: list[Any]) -> bool:
    """Whether all of them copy hard rows of both kinds and can be limited to reducible ones."""
    return all("only" in type(copy).model_fields and copy.only is None for copy in copies)


def of_reducible_rows(pipeline: Pipeline) -> Pipeline:
    """The recipe with copies of reducible hard rows only."""
    copies = copying(pipeline)
    changed = tuple(
        augmenter.model_copy(
            update={"only": REDUCIBLE} | ({"noise_guard": 0.0} if "noise_guard" in type(augmenter).model_fields else {})
        )
        if any(augmenter is copy for copy in copies)
        else augmenter
        for augmenter in pipeline.augmenters
    )
    return pipeline.model_copy(update={"augmenters": changed})


def synthesizing(pipeline: Pipeline) -> list[Any]:
    """The augmenters that write new rows."""
    return [augmenter for augmenter in pipeline.augmenters if _writes(augmenter)]


def _writes(augmenter: Any) -> bool:
    """Whether a model writes its rows, so that they have a cost."""
    return callable(getattr(augmenter, "price", None))
