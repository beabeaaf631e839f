"""Expressions: the same, different, or neither, by values with error bounds."""

from __future__ import annotations

import pytest

from tests.fixtures.answers import RIGHT, UNDECIDED, WRONG, both_ways


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (r"\frac{1}{50!}", r"\frac{1}{49!}"),
        (r"3^{-110}", r"3^{-111}"),
        (r"\frac{\pi}{2^{200}}", r"\frac{\pi}{2^{201}}"),
        (r"e^{-500}", r"e^{-501}"),
        (r"\sin(10^{-100})", r"\sin(10^{-101})"),
        (r"1-\cos(10^{-100})", "0"),
        (r"\tanh 500", "1"),
        (r"\sqrt{2}+10^{-300}", r"\sqrt{2}"),
        (r"\sqrt{10^{40}+1}", r"10^{20}"),
        (r"e^{\pi\sqrt{163}}", "640320^3+744"),
        (r"\sqrt[3]{10^{90}+1}", r"10^{30}"),
        (r"\log_{10}(10^{50}+1)", "50"),
        (r"(1+10^{-60})^{10}", "1"),
        (r"(\frac{1}{2^{200}},3)", r"(\frac{1}{2^{201}},3)"),
        (r"[2^{-200},1)", r"[2^{-201},1)"),
        (r"\{2^{-200}, 1\}", r"\{2^{-201}, 1\}"),
        (r"\begin{pmatrix}2^{-200}\\1\end{pmatrix}", r"\begin{pmatrix}2^{-201}\\1\end{pmatrix}"),
        (r"x^2+2^{-200}", r"x^2+2^{-201}"),
        (r"x+2^{-200}y", "x"),
        (r"\frac{x}{10^{70}}", r"\frac{x}{10^{71}}"),
        ("y = x + 2^{-200}", "y = x"),
        ("1e-700", "1e-701"),
        (r"2^{-200}\%", r"2^{-201}\%"),
        (r"2^{-200}i", r"2^{-201}i"),
        # Misread by the parser: juxtaposed integers were added.
        (r"3\binom{5}{2}", "13"),
        (r"\binom{5}{2}\binom{4}{2}", "16"),
        (r"(2)\frac{1}{3}", r"\frac{7}{3}"),
    ],
)
def test_different_numbers_are_wrong(one: str, other: str) -> None:
    assert both_ways(one, other) == {WRONG}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (r"\frac{100!}{50!\,50!}", r"\binom{100}{50}"),
        (r"\frac{2^{200}+1}{2^{201}}", r"\frac{1}{2}+2^{-201}"),
        (r"\sqrt{3+2\sqrt{2}}", r"1+\sqrt{2}"),
        (r"\sqrt[3]{2+\sqrt{5}}+\sqrt[3]{2-\sqrt{5}}", "1"),
        (r"\cos\frac{\pi}{5}", r"\frac{1+\sqrt{5}}{4}"),
        (r"\arctan 1", r"\frac{\pi}{4}"),
        (r"\log_2 8", "3"),
        (r"i^i", r"e^{-\pi/2}"),
        (r"\frac{1}{1+i}", r"\frac{1-i}{2}"),
        (r"\sqrt[3]{-8}", "-2"),
        (r"3\binom52", "30"),
        (r"\frac{1}{2}+\log_{2} 16", "4.5"),
        (r"\frac\pi2", r"\pi/2"),
        (r"\sqrt12", r"2\sqrt3"),
        ("\u221a12", r"2\sqrt{3}"),
        (r"\sinh(\ln 2)", r"\frac{3}{4}"),
        (r"\frac{(n+1)n}{2}", "n(n+1)/2"),
        (r"\frac{2}{\sqrt{x}}", r"\frac{2\sqrt{x}}{x}"),
        (r"2^{x+3}", r"8\cdot 2^x"),
        ("x < 3", r"(-\infty, 3)"),
        ("2 > x", "x < 2"),
        (r"\begin{pmatrix}\frac{1}{2}&1\end{pmatrix}", r"\begin{pmatrix}0.5&1\end{pmatrix}"),
        ("f(x) = 2x+3", "3+2x"),
        (r"12\pi\%", r"12\pi"),
        ("2x+4y=6", "x+2y=3"),
        (r"\binom{n}{2}", r"\frac{n(n-1)}{2}"),
        ("1e10", "10^{10}"),
        ("2.5e-60", r"\frac{5}{2}\cdot 10^{-60}"),
        (r"\frac{5C2}{10C3}", r"\frac{1}{12}"),
    ],
)
def test_equal_numbers_in_other_notations_are_right(one: str, other: str) -> None:
    assert both_ways(one, other) == {RIGHT}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (r"\sqrt{x^2}", "x"),
        ("|x-100|", "100-x"),
        (r"\sqrt{(x-10^9)^2}", "10^9-x"),
        (r"\ln(x^2)", r"2\ln x"),
        (r"\log x", r"\ln x"),
        (r"(-1)^n", "1"),
        (r"k\pi", r"\pi+k\pi"),
        (r"\overline{3+i}", "3-i"),
        ("2^3^2", "64"),
        (r"\sin 2 \cdot 3", r"\sin 6"),
        (r"\log_{2} 8 (3)", r"\log_{2} 24"),
        ("(101)_{2}", "10100"),
        ("1e2x", "100x"),
        ("5 r 1", "5"),
        ("0.1666666666666667+1/3", "1/2"),
        (r"\sqrt[3]{-8}", r"1+\sqrt{3}i"),
        # Decimals that were cut short, not rounded.
        ("0.66", "2/3"),
        ("0.14285714285714285", "1/7"),
        ("3.141592653589", r"\pi"),
    ],
)
def test_what_is_the_same_at_some_points_or_in_some_readings_is_undecided(one: str, other: str) -> None:
    assert both_ways(one, other) == {UNDECIDED}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (r"\sqrt{(x-2)^2(x-3)^2}", "(x-2)(x-3)"), (r"\sqrt{(x^2-5x+6)^2}", "x^2-5x+6"),
        (r"\sqrt[6]{x^2}", r"\sqrt[3]{x}"),
        (r"((x-20)^4(x-30)^4)^{1/4}", "(x-20)(x-30)"), (r"\frac{\sqrt{(x+1)^2(x+2)^2}}{(x+1)(x+2)}", "1"),
        (r"\sqrt{(x-y-2)^2(x-y-3)^2}", "(x-y-2)(x-y-3)"), (r"\cos(2\cdot 385\cdot 39\cdot 17\pi x)", "1"),
    ],
)  # fmt: skip
def test_what_differs_in_a_narrow_place_or_at_other_points_is_not_the_same(one: str, other: str) -> None:
    assert RIGHT not in both_ways(one, other)


def test_roots_that_agree_everywhere_are_the_same() -> None:
    assert both_ways(r"\sqrt{(x-2)^2(x-3)^2}", "|(x-2)(x-3)|") <= {RIGHT, UNDECIDED}
    assert both_ways(r"\sqrt{x^2-5x+6}", r"\sqrt{(x-2)(x-3)}") == {RIGHT}
    assert both_ways(r"x\sqrt{x}", "x^{3/2}") == {RIGHT}
