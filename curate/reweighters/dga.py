"""DGA: domain weights from the alignment of domain gradients with a target gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from curate.component import Component
from curate.dataset_reference import GivenData
from curate.errors import InputError
from curate.reweighters.bm25 import token_counts
from curate.seeds import derive_seed
from curate.tokenization.tokens import Tokens
from curate.training.reweighting import BatchOutputs, OptimizerBatch, Training
from curate.types import Float64Array, IntArray

if TYPE_CHECKING:
    import torch
    from scipy import sparse


_UNNAMED = "(none)"  # domain of rows with an empty domain column
_SMALLEST_WEIGHT = 1e-300
_BASIS_SMOOTHING = 0.05  # weight of the data's own mixture in all of them, so that every domain can be reached


class DGA(Component):
    """Dynamic gradient alignment (arXiv 2410.02498): weights of k domains that follow a target's gradient.

    Every `refresh_every` steps: a_i = <g_i, g_z>, the gradients of the mean loss over one mini-batch of domain i and
    one of the target, and alpha_i <- alpha_i exp(eta a_i) / sum_j alpha_j exp(eta a_j). A step along g_i lowers the
    target's loss by learning rate times a_i, to first order, so agreement raises the weight. Tokens are averaged:
    rows of domain i have weight alpha_i / p_i, p_i the domain's share of the data's completion tokens, so that the
    expected gradient is that of batches drawn from the mixture alpha, which the paper draws (of rows of one length); a
    domain far rarer in the data than in alpha makes it noisier.

    target: a dataset of the target task, tokenized as the training rows are.
    domains: column with each row's domain; None = the source column of the data.
    eta: step size of the update. alignment: "cosine" divides a_i by both norms, so that eta means the same for all
        models and at all times (ours); "dot" is the paper's.
    rows_per_gradient: rows of a mini-batch.
    smoothing: b of alpha <- (1 - b) alpha_old + b alpha_new; 1 = none. Where domains are small it keeps the mixture
        from following them into overfitting.
    basis: for many domains: alpha = sum_j c_j P_j over that many fixed mixtures P_j (see `importance_basis`), and c is
        updated from gradients of mini-batches drawn from each P_j; None = one gradient per domain.

    Cost: (k + 1) / refresh_every mini-batch gradients per step, or (basis + 1) / refresh_every.
    """

    target: GivenData
    domains: str | None = None
    eta: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    alignment: Literal["cosine", "dot"] = "cosine"
    refresh_every: int = Field(default=20, ge=1)
    rows_per_gradient: int = Field(default=8, ge=1)
    smoothing: float = Field(default=1.0, gt=0, le=1)
    basis: int | None = Field(default=None, ge=2)

    def begin(self, training: Training) -> Any:
        """Raises InputError if there are fewer than two domains, or the target has no row for a gradient."""
        column = self.domains or training.rows.source
        if column is None:
            raise InputError("DGA needs domains, but the data has no source column; name one with domains=COLUMN")
        values = training.rows.column(column, "DGA")
        names = np.array([_UNNAMED if value is None else str(value) for value in values], object)  # (n,)
        valid = training.tokens.valid
        domain_names = sorted(set(names[valid].tolist()))
        if len(domain_names) < 2:
            raise InputError(
                f"DGA weights domains relative to each other, but column {column!r} has one value only "
                f"({domain_names[0]!r}); name another column with domains=COLUMN"
            )
        target = training.rows.tokens_of(self.target.data, self.target.reading, f"DGA (target {self.target.name})")
        index = np.array(
            [domain_names.index(name) if name in domain_names else -1 for name in names.tolist()], np.int64
        )
        return _Domains(self, training, target, domain_names, np.where(valid, index, -1))


class _Domains:
    """The mixture during a run. names: of the k domains. index: (n,) domain of each row, -1 if not trained on."""

    def __init__(self, settings: DGA, training: Training, target: Tokens, names: list[str], index: IntArray) -> None:
        import torch

        self.settings, self.training, self.target, self.names = settings, training, target, names
        self.index = torch.from_numpy(index)
        counts = np.bincount(index[index >= 0], training.tokens.completion_tokens[index >= 0], len(names))
        self.shares = counts / counts.sum()
        k = len(names)
        self.mixtures: Float64Array = np.eye(k)
        self.mixing = self.shares.copy()
        if settings.basis is not None:
            self.mixtures = importance_basis(training.tokens, index, target, settings.basis, training.seed)
            self.mixing = np.full(len(self.mixtures), 1 / len(self.mixtures))
        self.rows = [np.flatnonzero(index == domain) for domain in range(k)]

    @property
    def alpha(self) -> Float64Array:
        """(k,) weights of the domains, summing to 1."""
        return self.mixing @ self.mixtures

    def refresh(self, step: int) -> None:
        """Update the mixture when due. All ranks must call it; they compute the gradients together."""
        if step % self.settings.refresh_every == 0:
            agreement = self._agreement(step)  # (domains,), or (basis,) with a basis
            # In logarithms, shifted, to avoid overflow; with a floor, so that any domain can come back.
            raised = np.log(np.maximum(self.mixing, _SMALLEST_WEIGHT)) + self.settings.eta * agreement
            raised = np.exp(raised - raised.max())
            b = self.settings.smoothing
            self.mixing = (1 - b) * self.mixing + b * raised / raised.sum()

    def weights(self, batch: OptimizerBatch, outputs: BatchOutputs) -> torch.Tensor:
        import torch

        by_domain = torch.from_numpy((self.alpha / self.shares).astype(np.float32))  # (k,) weights
        return by_domain[self.index[batch.known_rows("DGA")]].to(outputs.losses)

    def state(self) -> dict[str, torch.Tensor]:
        import torch

        return {"mixing": torch.from_numpy(self.mixing)}

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        if "mixing" not in state:
            raise InputError("the checkpoint is of a run with another reweighter than DGA; pass that one or start over")
        if len(state["mixing"]) != len(self.mixing):
            raise InputError(f"DGA had {len(state['mixing'])} domains, now there are {len(self.mixing)}; start over")
        self.mixing = state["mixing"].numpy().copy()

    def _agreement(self, step: int) -> Float64Array:
        """(k,) alignment of every domain or basis mixture; InputError if the target's gradient is 0 or not finite."""
        import torch

        toward = self.training.gradient(self._drawn(self.target, np.arange(len(self.target)), step, "target"))
        length = _norm(toward)
        if not np.isfinite(length) or length == 0:
            raise InputError(
                f"DGA: the gradient of the target {self.settings.target.name} is "
                f"{'0' if length == 0 else 'not finite'} after {step} steps, so no domain aligns with it; check the "
                "target's rows, and that the model trains"
            )
        alignments = []
        for j, mixture in enumerate(self.mixtures):
            gradient = self.training.gradient(self._mini_batch(mixture, step, j))
            own = _norm(gradient)
            if not np.isfinite(own):
                description = f"mixture {j} of the basis" if self.settings.basis else f"domain {self.names[j]!r}"
                raise InputError(
                    f"DGA: the gradient of {description} is not finite after {step} steps; lower the learning rate, "
                    "or check its rows"
                )
            dot = float(sum(torch.dot(g.flatten(), z.flatten()) for g, z in zip(gradient, toward, strict=True)))
            scale = max(own * length, 1e-30) if self.settings.alignment == "cosine" else 1.0
            alignments.append(dot / scale)
        return np.array(alignments)

    def _mini_batch(self, mixture: Float64Array, step: int, j: int) -> Tokens:
        """Rows drawn from a mixture of domains: first a domain, then a row of it."""
        tokens, count = self.training.tokens, self.settings.rows_per_gradient
        (pure,) = np.nonzero(mixture) if np.count_nonzero(mixture) == 1 else (None,)
        if pure is not None:
            return self._drawn(tokens, self.rows[pure[0]], step, j)
        random = np.random.default_rng(derive_seed(self.training.seed, "DGA", step, j))
        domains = random.choice(len(mixture), count, p=mixture)
        return tokens.take(np.array([random.choice(self.rows[domain]) for domain in domains], np.int64))

    def _drawn(self, tokens: Tokens, rows: IntArray, step: int, stream: str | int) -> Tokens:
        random = np.random.default_rng(derive_seed(self.training.seed, "DGA", step, stream))
        count = min(self.settings.rows_per_gradient, len(rows))
        return tokens.take(random.choice(rows, count, replace=False))


def _norm(tensors: list[torch.Tensor]) -> float:
    import torch

    return float(torch.nn.utils.get_total_norm(tensors))


def importance_basis(tokens: Tokens, domains: IntArray, target: Tokens, count: int, seed: int) -> Float64Array:
    """(count, k) mixtures of k domains: the data's own, and count - 1 importance samples of parts of the target.

    Rows are compared by the tf-idf of their token ids. The target's rows are clustered into count - 1 groups by
    k-means, and a group's mixture is how often each domain's centroid is the nearest (by cosine) to a row of it,
    smoothed by 5 % of the data's own. All of that is ours; the paper's basis is only known to come from importance
    sampling.

    domains: (n,) index of each row's domain, -1 for rows that are not trained on. Raises InputError if the target
    has fewer rows than groups.
    """
    from scipy import sparse
    from sklearn.cluster import KMeans

    if len(target) < count - 1:
        raise InputError(
            f"DGA: basis={count} needs {count - 1} groups of the target, which has {len(target)} rows; lower basis"
        )
    width = int(max(tokens.ids.max(initial=0), target.ids.max(initial=0))) + 1
    counts = token_counts(tokens, width)  # (n, width)
    containing = np.bincount(counts.indices, minlength=width)  # (width,)
    rarity = sparse.diags_array(np.log((1 + len(tokens)) / (1 + containing)) + 1)  # (width, width)
    trained = np.flatnonzero(domains >= 0)  # (trained rows,)
    k = int(domains.max()) + 1
    member = sparse.coo_array((np.ones(len(trained)), (domains[trained], trained)), shape=(k, len(tokens))).tocsr()
    centroids = _unit_rows(member @ _unit_rows(counts @ rarity))  # (k, width)
    rows = _unit_rows(token_counts(target, width) @ rarity)  # (target rows, width)
    nearest = np.asarray((rows @ centroids.T).todense()).argmax(axis=1)  # (target rows,) domains
    own = np.bincount(domains[trained], tokens.completion_tokens[trained], k)  # (k,)
    own = own / own.sum()
    groups = KMeans(count - 1, n_init=4, random_state=seed).fit_predict(rows)  # (target rows,)
    basis = [own]
    for group in range(count - 1):
        histogram = np.bincount(nearest[groups == group], minlength=k).astype(np.float64)
        basis.append((1 - _BASIS_SMOOTHING) * histogram / max(histogram.sum(), 1) + _BASIS_SMOOTHING * own)
    mixtures = np.stack(basis)  # (count, k)
    return mixtures / mixtures.sum(axis=1, keepdims=True)


def _unit_rows(rows: sparse.csr_array) -> sparse.csr_array:
    """Rows scaled to length 1; a zero row stays zero."""
    from sklearn.preprocessing import normalize

    return normalize(rows)
