"""What synthesis would still ask of a generator, found without one."""

from __future__ import annotations

from augmenters.synthesis.settings import Settings
from augmenters.synthesis.synthesize import begin
from augmenters.synthesis.variants import Family
from curate.data.examples import Examples
from curate.mixture.plan import Demand, Price
from curate.run import Run

__all__ = ["price"]

_CHARACTERS_PER_TOKEN = 3.5  # of English with numbers; the generator's own tokenizer is not asked


def price(settings: Settings, demand: Demand, examples: Examples, run: Run) -> Price:
    """Replays what the store holds and counts the rest; no model is loaded or asked."""
    found, work = begin(settings, demand, examples, run)
    work.replay()
    left = work.left()
    open_ones = [family for family in work.families if not family.finished]
    generated = prompts = 0.0
    for family in open_ones:
        more_generated, more_prompts = _expected(family, settings)
        generated += more_generated
        prompts += more_prompts
    return Price(
        rows=len(found.parents),
        skipped=found.skipped.total(),
        stored=work.stored,
        requests=left.requests,
        generated_tokens=min(int(generated), left.completion_tokens),
        prompt_tokens=int(prompts),
        most_tokens=left.completion_tokens,
    )


def _expected(family: Family, settings: Settings) -> tuple[float, float]:
    """Tokens (generated, of prompts) of what is open: texts about as long as the parent's."""
    problem = len(family.parent.problem) / _CHARACTERS_PER_TOKEN
    solution = len(family.parent.solution) / _CHARACTERS_PER_TOKEN
    around = [len(text) / _CHARACTERS_PER_TOKEN for text in (settings.variation_prompt, settings.solution_prompt)]
    generated = prompts = 0.0
    for variant in family.variants:
        if variant.outcome is not None:
            continue
        samples = settings.samples - len(variant.drawn)
        generated += samples * min(1.5 * solution, settings.solution_sampling.max_tokens)
        prompts += samples * (problem + around[1])
        if variant.proposal is None:
            generated += min(problem, settings.variation_sampling.max_tokens)
            prompts += solution + around[0]
    return generated, prompts
