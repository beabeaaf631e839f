"""The page and the plots of `benchmarks.theory`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def page(record: dict[str, Any]) -> str:
    """theory.md."""
    part, sam, model = record["reduced"], record["sam"], record["full_model"]
    rhos = " | ".join(f"rho = {rho:g}" for rho in part["rhos"])
    settings = model["settings"]
    together = zip(model["rhos"], model["one_head_each"]["entropy"], strict=True)
    entropies = ", ".join(f"{x:.4f} (rho = {rho:g})" for rho, x in together)
    lines = [
        "# Simplicity bias of gradient descent and SAM in linear attention",
        "",
        f"Written by `{record['command']}` in {record['seconds']:.0f} s; every number is in theory.json. Eigenvalues "
        f"{', '.join(map(str, record['eigenvalues']))}, {record['context']} examples in context.",
        "",
        "## Plateaus",
        "",
        f"Losses with the first 0 to {len(record['eigenvalues'])} eigenvectors learned: "
        f"{', '.join(f'{x:.6f}' for x in record['plateaus'])}. Descent from small weights (one seed) stands still at "
        f"{', '.join(f'{x:.4f}' for x in record['curves']['stands_still_at'])}.",
        "",
        "![losses](theory-plateaus.svg)",
        "",
        "## Entropy of the learning times, reduced equation",
        "",
        "One head at a time, from v = start to a fraction of its rest point; nats, at most "
        f"ln {len(record['eigenvalues'])} = {np.log(len(record['eigenvalues'])):.3f}.",
        "",
        f"| start | fraction | terms | {rhos} |",
        "|---|---|---|" + "---|" * len(part["rhos"]),
    ]
    for row in part["table"]:
        cells = " | ".join(f"{x:.6f}" for x in row["entropy"])
        lines.append(f"| {row['start']} | {row['fraction']} | {'both' if row['whole'] else 'v^2'} | {cells} |")
    starts = sorted({each["start"] for each in part["change_at_0.05"]})
    fractions = sorted({each["fraction"] for each in part["change_at_0.05"]})
    change = {(each["start"], each["fraction"]): each["change"] for each in part["change_at_0.05"]}
    lines += [
        "",
        "SAM does not raise the entropy everywhere: change by rho = 0.05, in thousandths of a nat, both terms.",
        "",
        f"| start | {' | '.join(f'to {f:g} v*' for f in fractions)} |",
        "|---|" + "---|" * len(fractions),
        *(f"| {s} | {' | '.join(f'{1000 * change[s, f]:+.2f}' for f in fractions)} |" for s in starts),
        "",
        "![learning times](theory-times.svg)",
        "",
        "## SAM itself against the reduced equation",
        "",
        "On the full model with one head, SAM's step and the reduced equation differ by at most "
        f"{sam['largest_relative_error']:.1e} of it. The first-order constant, by differences of SAM itself, is "
        f"{sam['first_order_constant'][0]:.6f} = 2 / sqrt 3. Rates at eigenvalue 0.3, rho = 0.05, v = 0.2: "
        + "; ".join(f"{k} {v:.6f}" for k, v in sam["rates_at_eigenvalue_0.3_rho_0.05_v_0.2"].items())
        + ".",
        "",
        f"## Full model, {settings['seeds']} seeds",
        "",
        f"{settings['heads']} heads from normal weights of deviation {settings['init']}, population gradient, step "
        f"{settings['step']}; learned = A[d, d] past half its optimum. Entropy against gradient descent from the same "
        "weights:",
        "",
        "| rho | higher | lower | mean change | standard error |",
        "|---|---|---|---|---|",
        *(
            f"| {each['rho']} | {each['higher']} | {each['lower']} | {each['mean_change']:+.4f} "
            f"| {each['standard_error'] or float('nan'):.4f} |"
            for each in model["summary"]
        ),
        "",
        "So the entropy rises from some weights and falls from others: the reduced equation follows one head alone, "
        "and does not carry over to every start. From one head of size 0.2 on each eigenvector, where the heads grow "
        f"at the same time and share one radius, it is {entropies}; up to rho = {model['rhos'][-1]} the four "
        f"learning times become {_times(model['one_head_each']['slower'])} times as long, alone they would become "
        f"{_times(model['one_head_each']['slower_reduced'])} times as long.",
        "",
        "![entropy against rho](theory-entropy.svg)",
        *_data_lever(record["data_lever"]),
    ]
    return "\n".join(lines) + "\n"


def _data_lever(part: dict[str, Any]) -> list[str]:
    """The section about copies."""
    lines = [
        "",
        "## Copies of late sequences, reduced equation",
        "",
        "One head per direction; copies multiply the weight of a group by k / (1 + (k - 1) h), that of the others by "
        "1 / (1 + (k - 1) h), so that time is equal. From v = 0.2 to half of the rest point; test loss at the original "
        "arm's last learning time. Spectrum: the eigenvalues above, each half of the directions seen in sequences "
        "of its own. In one Gaussian no copies change the equation.",
        "",
        "| mixture | arm | learning times | entropy | test loss |",
        "|---|---|---|---|---|",
    ]
    for kind in part["reduced"]:
        for row in kind["arms"]:
            times = ", ".join(f"{x:.1f}" for x in row["times"])
            lines.append(f"| {kind['kind']} | {row['arm']} | {times} | {row['entropy']:.3f} | {row['loss']:.3f} |")
    lines += [
        "",
        f"## Copies of late sequences, full model on {part['sequences']:,} sequences",
        "",
        "Full-batch descent from the same weights on the same sequences; test loss over the mixture as it is, exact, "
        "at the original arm's last learning time (equal steps) and at half of that. Mean changes, with standard "
        "errors; times are medians.",
    ]
    for kind in part["full_model"]:
        seeds = max(row["seeds"] for row in kind["arms"])
        original = kind["arms"][0]
        lines += [
            "",
            f"**{kind['kind']}**: {kind['what']}. Original, {seeds} seeds: entropy {original['entropy']:.3f}, test "
            f"loss {original['loss']:.4f}.",
            "",
            "| arm | learning times | entropy | higher in | test loss | lower in | at half |",
            "|---|---|---|---|---|---|---|",
        ]
        for row in kind["arms"]:
            times = ", ".join(f"{x:.0f}" for x in row["times"])
            change = f"{row['change']:+.3f} ({row['change_error'] or 0:.3f})"
            loss = f"{row['loss_change']:+.1%} ({row['loss_change_error'] or 0:.1%})"
            lines.append(
                f"| {row['arm']} | {times} | {change} | {row['higher']} of {row['seeds']} | {loss} "
                f"| {row['loss_lower']} | {row['loss_change_at_half']:+.1%} |"
            )
    return [*lines, "", "![entropy against test loss](theory-data.svg)"]


def _times(values: list[float]) -> str:
    return ", ".join(f"{x:g}" for x in values)


def draw(record: dict[str, Any], folder: Path) -> None:
    """The four plots as SVG."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update(
        {"svg.hashsalt": "theory", "svg.fonttype": "none", "font.size": 10, "lines.linewidth": 1.6}
    )
    from matplotlib import pyplot

    def save(name: str, axes: Any, **labels: Any) -> None:
        axes.set(**labels)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=9)
        axes.figure.savefig(folder / f"theory-{name}.svg", bbox_inches="tight", metadata={"Date": None})
        pyplot.close(axes.figure)

    _, axes = pyplot.subplots(figsize=(6.4, 3.6))
    for level, value in enumerate(record["plateaus"]):
        axes.axhline(value, color="0.75", linewidth=0.9, linestyle="--", label=None if level else "plateaus, theory")
    for rho, losses in zip(record["curves"]["rhos"], record["curves"]["losses"], strict=True):
        axes.plot(record["curves"]["steps"][1:], losses[1:], label=f"SAM, rho = {rho:g}" if rho else "gradient descent")
    save("plateaus", axes, xscale="log", xlabel="step", ylabel="loss")

    _, axes = pyplot.subplots(figsize=(6.4, 3.6))
    for rho, times in record["reduced"]["times_start_0.2_half"].items():
        label = "gradient descent" if float(rho) == 0 else f"SAM, rho = {float(rho):g}"
        axes.plot(record["eigenvalues"], times, "o-", label=label)
    labels = {"xlabel": "eigenvalue", "ylabel": "learning time / tau", "xticks": record["eigenvalues"]}
    save("times", axes, yscale="log", **labels)

    model, part = record["full_model"], record["reduced"]
    _, axes = pyplot.subplots(figsize=(6.4, 3.6))
    axes.axhline(0, color="0.75", linewidth=0.9)
    found = np.array(model["entropy"], float)
    for k, row in enumerate(found):
        label = None if k else "full model, one line per seed"
        axes.plot(model["rhos"], row - row[0], color="tab:blue", alpha=0.35, linewidth=1, label=label)
    axes.plot(model["rhos"], np.nanmean(found - found[:, :1], 0), color="tab:blue", label="their mean")
    first = np.array(part["table"][0]["entropy"])
    axes.plot(part["rhos"], first - first[0], "o-", color="tab:orange", label="reduced equation (0.2, to half)")
    save("entropy", axes, xlabel="rho", ylabel="change of entropy / nat")

    _, axes = pyplot.subplots(figsize=(6.4, 4.0))
    axes.axhline(0, color="0.75", linewidth=0.9)
    axes.axvline(0, color="0.75", linewidth=0.9)
    for color, kind in enumerate(record["data_lever"]["full_model"]):
        rows = {row["arm"]: row for row in kind["arms"]}
        families = {"late": ["late x2", "late x3", "late x5"], "SAM": ["SAM 0.05", "SAM 0.1", "SAM 0.2"]}
        families |= {"early": ["early x3"], "random": ["random x3"]}
        for (name, arms), mark in zip(families.items(), "osvx", strict=True):
            points = [(rows[arm]["change"], 100 * rows[arm]["loss_change"]) for arm in arms]
            shown = kind["kind"] if name == "late" else f"{name} (same colors)" if color == 0 else ""
            axes.plot(
                *zip(*points, strict=True), f"{mark}-", color=f"C{color}", markersize=5, linewidth=0.8, label=shown
            )
    save("data", axes, xlabel="change of entropy / nat", ylabel="change of test loss at equal steps / %")
