"""Pairs of answers of which it is known whether they are equal: values in several notations, and near misses."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from fractions import Fraction

__all__ = ["KINDS", "Pair", "pairs"]

# First answer, second answer, whether they are equal.
Pair = tuple[str, str, bool]


def pairs(seed: int, count: int) -> list[tuple[str, Pair]]:
    """`count` pairs with the names of their kinds, one kind after the other, half of them unequal."""
    rng = random.Random(seed)
    names = list(KINDS)
    found = []
    for k in range(count):
        name = names[k % len(names)]
        found.append((name, KINDS[name](rng, k // len(names) % 2 == 0)))
    return found


def _swapped(rng: random.Random, one: str, other: str, equal: bool) -> Pair:
    return (one, other, equal) if rng.random() < 0.5 else (other, one, equal)


def _tiny(rng: random.Random) -> str:
    """Ten to a power from -12 to -60."""
    return rf"10^{{-{rng.randint(12, 60)}}}"


def _wrote(value: Fraction, rng: random.Random) -> str:
    """A fraction in one of its notations."""
    p, q = value.numerator, value.denominator
    k = rng.randint(2, 9)
    forms = [
        f"{p}/{q}",
        rf"\frac{{{p}}}{{{q}}}",
        rf"\dfrac{{{k * p}}}{{{k * q}}}",
        f"{k * p}/{k * q}",
        rf"-\frac{{{-p}}}{{{q}}}",
    ]
    forms += [
        rf"{p} \cdot {q}^{{-1}}",
        rf"\frac{{{p - k}}}{{{q}}} + \frac{{{k}}}{{{q}}}",
        rf"\left(\frac{{{q}}}{{{p}}}\right)^{{-1}}",
    ]
    if p > q > 1:
        forms.append(rf"{p // q}\frac{{{p % q}}}{{{q}}}")
    if q == 1:
        forms += [f"{p}.0", f"{p:,}"]
    if 10**6 % q == 0:
        forms.append(f"{float(value):.6f}")
    return rng.choice(forms)


def rationals(rng: random.Random, equal: bool) -> Pair:
    value = Fraction(rng.choice([-1, 1]) * rng.randint(1, 999), rng.choice([1, 2, 3, 4, 5, 7, 8, 10, 12, 125, 997]))
    if equal:
        return _swapped(rng, _wrote(value, rng), _wrote(value, rng), True)
    other = value * (1 + Fraction(rng.choice([-1, 1]), 10 ** rng.randint(12, 60)))
    near = rng.choice([rf"\frac{{{other.numerator}}}{{{other.denominator}}}", _wrote(value, rng) + " + " + _tiny(rng)])
    far = rng.choice([-value, value + 1, 1 / value + 2, value + Fraction(1, value.denominator)])
    return _swapped(rng, _wrote(value, rng), rng.choice([near, near, _wrote(far, rng)]), False)


def powers(rng: random.Random, equal: bool) -> Pair:
    a, n = rng.randint(2, 12), rng.choice([-1, 1]) * rng.randint(20, 250)
    m = rng.randint(2, 15)
    forms = [
        rf"{a}^{{{n}}}",
        f"{a}^({n})",
        f"{a}**({n})",
        rf"\frac{{1}}{{{a}^{{{-n}}}}}",
        rf"{a}^{{{m}}} \cdot {a}^{{{n - m}}}",
    ]
    forms += [rf"\frac{{{a}^{{{n + m}}}}}{{{a}^{{{m}}}}}", rf"({a * a})^{{{n}/2}}", rf"\frac{{{a}^{{{n + 1}}}}}{{{a}}}"]
    if equal:
        one, other = rng.sample(forms, 2)
        return _swapped(rng, one, other, True)
    wrong = [
        rf"{a}^{{{n + 1}}}",
        rf"{a}^{{{n - 1}}}",
        rf"-{a}^{{{n}}}",
        rf"{a + 1}^{{{n}}}",
        rf"{a}^{{{n}}}(1+{_tiny(rng)})",
    ]
    wrong += [rf"\frac{{{a}^{{{n}}}+1}}{{{m}}}", rf"{a}^{{{n}}} + {a}^{{{n - 150}}}", rf"\frac{{{m}}}{{{a}^{{{-n}}}}}"]
    return _swapped(rng, rng.choice(forms), rng.choice(wrong), False)


def factorials(rng: random.Random, equal: bool) -> Pair:
    n = rng.randint(5, 90)
    k = rng.randint(2, n - 2)
    if rng.random() < 0.5:
        forms = [f"{n}!", rf"{n} \cdot {n - 1}!", rf"\frac{{{n + 1}!}}{{{n + 1}}}", f"{math.factorial(n)}", f"({n})!"]
        wrong = [f"{n - 1}!", f"{n + 1}!", f"{math.factorial(n) + 1}", rf"{n}! + {_tiny(rng)}", rf"\frac{{{n}!}}{{2}}"]
        if rng.random() < 0.5:
            forms, wrong = ([rf"\frac{{1}}{{{each}}}" for each in part] for part in (forms, wrong))
    else:
        forms = [rf"\binom{{{n}}}{{{k}}}", f"{n}C{k}", rf"C_{{{n}}}^{{{k}}}", f"C({n}, {k})", f"{math.comb(n, k)}"]
        forms += [
            rf"\frac{{{n}!}}{{{k}!\,{n - k}!}}",
            rf"\binom{{{n}}}{{{n - k}}}",
            rf"{{}}_{{{n}}}C_{{{k}}}",
            rf"\dbinom{{{n}}}{{{k}}}",
        ]
        wrong = [rf"\binom{{{n + 1}}}{{{k}}}", f"{math.comb(n, k) + 1}", rf"\frac{{{n}!}}{{{k}!}}", f"{n + 2}C{k}"]
        wrong += [rf"\binom{{{n}}}{{{k}}} + {_tiny(rng)}"]
    one = rng.choice(forms)
    return _swapped(rng, one, rng.choice(forms if equal else wrong), equal)


def roots(rng: random.Random, equal: bool) -> Pair:
    a, b, c = rng.randint(2, 9), rng.choice([2, 3, 5, 6, 7, 10, 11]), rng.choice([13, 17, 19])
    families = [
        [
            rf"{a}\sqrt{{{b}}}",
            rf"\sqrt{{{a * a * b}}}",
            f"{a}*sqrt({b})",
            rf"\frac{{{a * b}}}{{\sqrt{{{b}}}}}",
            rf"{a} \cdot {b}^{{1/2}}",
        ],
        [
            rf"\sqrt{{{b}}}+\sqrt{{{c}}}",
            rf"\sqrt{{{b + c}+2\sqrt{{{b * c}}}}}",
            rf"\sqrt{{{c}}} + \sqrt{{{b}}}",
            rf"\frac{{{c - b}}}{{\sqrt{{{c}}}-\sqrt{{{b}}}}}",
        ],
        [
            rf"{a}\sqrt[3]{{{b}}}",
            rf"\sqrt[3]{{{a**3 * b}}}",
            rf"{a} \cdot {b}^{{\frac{{1}}{{3}}}}",
            rf"\frac{{{a * b}}}{{{b}^{{2/3}}}}",
        ],
        [
            rf"\frac{{{a}+\sqrt{{{b}}}}}{{{c}}}",
            rf"\frac{{{a}}}{{{c}}}+\frac{{\sqrt{{{b}}}}}{{{c}}}",
            rf"\frac{{{a * a - b}}}{{{c}({a}-\sqrt{{{b}}})}}",
        ],
    ]
    forms = rng.choice([family for family in families if a * a != b or family is not families[3]])
    one, other = rng.sample(forms, 2)
    if equal:
        return _swapped(rng, one, other, True)
    wrong = [
        rf"{other} + {_tiny(rng)}",
        rf"-({other})",
        rf"{other} - {_tiny(rng)}",
        rf"{other} + 1",
        rf"\frac{{{other}}}{{2}}",
    ]
    return _swapped(rng, one, rng.choice(wrong), False)


def constants(rng: random.Random, equal: bool) -> Pair:
    a, b = rng.randint(2, 9), rng.randint(2, 9)
    forms = rng.choice(
        [
            [
                rf"{a}\pi",
                rf"\frac{{{a * b}\pi}}{{{b}}}",
                rf"\pi \cdot {a}",
                f"{a}*pi",
                rf"\frac{{{a}}}{{\frac{{1}}{{\pi}}}}",
            ],
            [rf"{a}\ln {b}", rf"\ln({b**a})", rf"\ln {b}^{{{a}}}", rf"-{a}\ln\frac{{1}}{{{b}}}"],
            [
                rf"\sin\frac{{\pi}}{{{a + 4}}}",
                rf"\cos\left(\frac{{\pi}}{{2}}-\frac{{\pi}}{{{a + 4}}}\right)",
                rf"\sin\left(\pi-\frac{{\pi}}{{{a + 4}}}\right)",
            ],
            [rf"e^{{{a}}} \cdot e^{{{b}}}", rf"e^{{{a + b}}}", rf"\frac{{e^{{{a + 2 * b}}}}}{{e^{{{b}}}}}"],
            [rf"\log_{{{b}}} {a**3}", rf"3\log_{{{b}}}({a})", rf"\frac{{3\ln({a})}}{{\ln({b})}}"],
            [rf"{a}+{b}i", rf"{b}i+{a}", rf"\frac{{{a * a + b * b}}}{{{a}-{b}i}}"],
        ]
    )
    one, other = rng.sample(forms, 2)
    wrong = [rf"{other} + {_tiny(rng)}", rf"-({other})", rf"{other} + 2", rf"\frac{{{other}}}{{3}}"]
    return _swapped(rng, one, other if equal else rng.choice(wrong), equal)


def polynomials(rng: random.Random, equal: bool) -> Pair:
    a, b, c = rng.randint(1, 9), rng.randint(1, 9), rng.randint(2, 6)
    x, y = rng.choice([("x", "y"), ("a", "b"), ("t", "u"), ("n", "r")])
    forms = rng.choice(
        [
            [f"({x}+{a})({x}-{b})", f"{x}^2+{a - b}{x}-{a * b}".replace("+-", "-"), f"({x}-{b})({x}+{a})"],
            [f"({x}+{a}{y})^2", f"{x}^2+{2 * a}{x}{y}+{a * a}{y}^2", f"{x}({x}+{2 * a}{y})+{a * a}{y}^{{2}}"],
            [rf"\frac{{{x}^2-{c * c}}}{{{x}-{c}}}", f"{x}+{c}", rf"{c}\left(\frac{{{x}}}{{{c}}}+1\right)"],
            [rf"\frac{{{a}}}{{{x}}}+\frac{{{b}}}{{{y}}}", rf"\frac{{{a}{y}+{b}{x}}}{{{x}{y}}}"],
            [rf"2^{{{x}+{c}}}", rf"{2**c} \cdot 2^{{{x}}}", rf"\frac{{2^{{{x}+{c + 1}}}}}{{2}}"],
        ]
    )
    one, other = rng.sample(forms, 2)
    wrong = [
        rf"{other} + {_tiny(rng)}",
        rf"{other} + {x}",
        rf"{other} - 1",
        rf"{other} + {_tiny(rng)}{x}",
        f"-({other})",
    ]
    return _swapped(rng, one, other if equal else rng.choice(wrong), equal)


_PARTS: list[Callable[[random.Random, bool], Pair]] = [rationals, powers, roots, constants]


def _several(rng: random.Random, equal: bool, count: int) -> tuple[list[str], list[str]]:
    """Elements in two notations each; unless all are `equal`, one of them differs."""
    wrong = -1 if equal else rng.randrange(count)
    both = []
    for k in range(count):
        # Not twice the same value, so that no two elements can stand for one another.
        one, other, _ = rng.choice(_PARTS)(rng, k != wrong)
        both.append((f"{one} + {1000 * k}", f"{other} + {1000 * k}"))
    return [one for one, _ in both], [other for _, other in both]


def intervals(rng: random.Random, equal: bool) -> Pair:
    flip = not equal and rng.random() < 0.5
    (a, b), (c, d) = _several(rng, equal or flip, 2)
    left, right = rng.choice("(["), rng.choice(")]")
    if right == ")" and rng.random() < 0.2:
        b = d = r"\infty"
    one = f"{left}{a}, {b}{right}"
    turned = f"{'(' if left == '[' else '['}{c}, {d}{right}"
    if not flip and not equal and b == r"\infty":
        return _swapped(rng, one, turned, False)
    return _swapped(rng, one, turned if flip else rf"\left{left}{c},\,{d}\right{right}", equal)


def collections(rng: random.Random, equal: bool) -> Pair:
    count = rng.randint(2, 4)
    swap = not equal and rng.random() < 0.3
    mine, theirs = _several(rng, equal or swap, count)
    if swap:
        # Tuples with two elements exchanged.
        theirs[0], theirs[1] = theirs[1], theirs[0]
        return f"({', '.join(mine)})", f"({', '.join(theirs)})", False
    left, right = rng.choice([("(", ")"), (r"\{", r"\}"), ("", "")])
    if left != "(":
        rng.shuffle(theirs)
    return f"{left}{', '.join(mine)}{right}", f"{left}{', '.join(theirs)}{right}", equal


_UNITS = [
    ["km", "kilometers", "kilometer"],
    ["dollars", "USD"],
    ["hours", "hrs"],
    ["apples", "apple"],
    ["cm^2"],
    ["inches", "in"],
]


def measures(rng: random.Random, equal: bool) -> Pair:
    value, unit = Fraction(rng.randint(2, 5000), rng.choice([1, 2, 4, 5])), rng.choice(_UNITS)
    shown = f"{float(value):,.2f}".rstrip("0").rstrip(".")
    one = f"{shown} {rng.choice(unit)}"
    if equal:
        return _swapped(
            rng, one, rng.choice([shown, f"{shown} {rng.choice(unit)}", rf"{shown}\text{{ {rng.choice(unit)}}}"]), True
        )
    other = rng.choice(
        [
            f"{float(value) + 1:,.2f}",
            shown.replace(",", "") + "0000000000001" if "." in shown else f"{shown}.000000000001",
        ]
    )
    foreign = rng.choice([each for each in _UNITS if each is not unit])
    return _swapped(
        rng, one, rng.choice([f"{other} {rng.choice(unit)}", other, f"{shown} {rng.choice(foreign)}"]), False
    )


def shares(rng: random.Random, equal: bool) -> Pair:
    value = rng.randint(2, 99)
    forms = [
        f"{value}%",
        rf"{value}\%",
        f"{value} percent",
        f"{value / 100:.2f}",
        f"{value}/100",
        rf"\frac{{{value}}}{{100}}",
    ]
    if equal:
        return _swapped(rng, forms[rng.randrange(3)], rng.choice(forms), True)
    wrong = [
        f"{value + 1}%",
        f"0.{value:02d}000000000001",
        f"{value}.000000000001%",
        f"-{value}%",
        f"{value / 1000:.3f}",
    ]
    return _swapped(rng, forms[rng.randrange(3)], rng.choice(wrong), False)


def money(rng: random.Random, equal: bool) -> Pair:
    value = rng.randint(1000, 999_999)
    forms = [
        f"${value:,}",
        rf"\${value}",
        f"{value} dollars",
        f"{value}",
        f"${value:,}.00",
        f"{value / 1000:.3f} thousand",
        f"US${value}",
    ]
    wrong = [f"${value + 1:,}", f"${value}.000000000001", f"-${value}", f"${value} million", f"{value / 10:.1f}"]
    one = rng.choice(forms)
    return _swapped(rng, one, rng.choice(forms if equal else wrong), equal)


def matrices(rng: random.Random, equal: bool) -> Pair:
    swap = not equal and rng.random() < 0.3
    mine, theirs = _several(rng, equal or swap, 4)
    if swap:
        theirs[1], theirs[2] = theirs[2], theirs[1]
    one, other = (rf"\begin{{pmatrix}} {a} & {b} \\ {c} & {d} \end{{pmatrix}}" for a, b, c, d in (mine, theirs))
    return one, other, equal


def relations(rng: random.Random, equal: bool) -> Pair:
    """Lines and half-lines; of inequalities, unequal ones are never wrong."""
    a, b, c, k = rng.randint(2, 9), rng.randint(2, 9), rng.randint(1, 9), rng.randint(2, 5)
    tiny = _tiny(rng)
    if rng.random() < 0.5:
        wrong = [f"{a}x+{b}y={c + 1}", f"{a}x-{b}y={c}", f"{a}x+{b}y={c}+{tiny}", f"{b + a}x+{b}y={c}"]
        forms = [f"{a}x+{b}y={c}", f"{k * a}x+{k * b}y={k * c}", f"{c}={b}y+{a}x", f"{a}x+{b}y-{c}=0"]
    else:
        wrong = [rf"{a}x \le {b}", f"{a}x > {b}", f"{a}x < {b}+{tiny}", f"-{a}x < {b}", f"{a + b}x < {b}"]
        forms = [f"{a}x < {b}", f"{k * a}x < {k * b}", f"{b} > {a}x", rf"x < \frac{{{b}}}{{{a}}}", rf"-{a}x > -{b}"]
    return _swapped(rng, rng.choice(forms), rng.choice(forms if equal else wrong), equal)


def _tree(rng: random.Random, depth: int) -> tuple[str, Fraction]:
    """An expression of integers, that stands for a factor or a term in brackets as it is, and its value."""
    if depth == 0 or rng.random() < 0.15:
        n = rng.randint(1, 12)
        return str(n), Fraction(n)
    (one, a), (other, b) = _tree(rng, depth - 1), _tree(rng, depth - 1)
    n = rng.randint(2, 4)
    options = [
        (rf"\left({one} + {other}\right)", a + b),
        (f"({one} - {other})", a - b),
        (f"({one}-{other})", a - b),
        (rf"({one} \cdot {other})", a * b),
        (rf"({one} \times {other})", a * b),
        (f"({one})({other})", a * b),
        (f"({one} + {n}({other}))", a + n * b),
        (rf"({one})^{{{n}}}", a**n),
        (rf"\sqrt{{({one})^2}}", abs(a)),
        (rf"\left|{one}\right|", abs(a)),
        (rf"\lfloor {one} \rfloor", Fraction(math.floor(a))),
        (rf"(-{one})", -a),
        (rf"{{{one}}}", a),
        (rf"\frac{{{rng.randint(1, 4)}!}}{{1}}", Fraction(0)),
        (rf"\binom{{{n + 2}}}{{{n}}}", Fraction(math.comb(n + 2, n))),
        (rf"\log_{{{n}}} {n**3}", Fraction(3)),
        (rf"\frac{n}{n + 3}", Fraction(n, n + 3)),
    ]
    if b:
        options += [(rf"\frac{{{one}}}{{{other}}}", a / b), (rf"(({one})/({other}))", a / b)] * 2
    written, value = rng.choice(options)
    if written.endswith("!}{1}"):
        value = Fraction(math.factorial(int(written[6])))
    return written, value


def expressions(rng: random.Random, equal: bool) -> Pair:
    written, value = _tree(rng, 3)
    if not equal:
        value += Fraction(1, rng.choice([1, 7, 10**12, 10**55]))
    return _swapped(rng, written, rf"\frac{{{value.numerator}}}{{{value.denominator}}}", equal)


KINDS: dict[str, Callable[[random.Random, bool], Pair]] = {
    each.__name__: each
    for each in (
        rationals,
        powers,
        factorials,
        roots,
        constants,
        polynomials,
        intervals,
        collections,
        measures,
        shares,
        money,
        matrices,
        relations,
        expressions,
    )
}
