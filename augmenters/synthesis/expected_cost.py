"""Expected token cost of variants before any request is made, for `curate plan`."""

from __future__ import annotations

from augmenters.synthesis.variant_group import VariantGroup

CHARACTERS_PER_TOKEN = 3.5  # for English with numbers; the generator's own tokenizer is not used


def expected_tokens(group: VariantGroup) -> tuple[float, float]:
    """Tokens (generated, in prompts) still to come, if texts are about as long as the source row's."""
    settings = group.settings
    problem = len(group.source.problem) / CHARACTERS_PER_TOKEN
    solution = len(group.source.solution) / CHARACTERS_PER_TOKEN
    prompt_tokens = [len(text) / CHARACTERS_PER_TOKEN for text in (settings.variation_prompt, settings.solution_prompt)]
    solving = min(1.5 * solution, settings.solution_sampling.max_tokens)
    unsolved = settings.band.samples - len(group.parent) if settings.solves_parents and not group.finished else 0
    generated, prompts = unsolved * solving, unsolved * (problem + prompt_tokens[1])
    for variant in group.variants:
        if variant.outcome is not None:
            continue
        samples = settings.band.samples - len(variant.drawn)
        generated += samples * solving
        prompts += samples * (problem + prompt_tokens[1])
        if variant.proposal is None:
            generated += min(problem, settings.variation_sampling.max_tokens)
            prompts += solution + prompt_tokens[0]
        if settings.second is not None:
            unsampled = settings.second.samples - len(variant.second)
            generated += unsampled * min(1.5 * solution, settings.second.sampling.max_tokens)
            prompts += unsampled * (problem + len(settings.second.prompt) / CHARACTERS_PER_TOKEN)
    return generated, prompts
