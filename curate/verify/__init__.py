"""Extraction, comparison and grading of final answers of math problems; anything that cannot be parsed is undecided.

`extract` finds the final answer in a solution, `reference_answer` the one that a dataset's solution marks,
`same_answer` compares two answers, `grade` does both for one solution and `grade_many` for many. `run_program` runs a
Python program written by a model in a sandbox.

The rules by which answers are the same:

- Numbers are compared exactly, as fractions: 18 = 18.00 = 36/2 = 1.8e1, and 1,800 = 1800.
- A decimal with two or more places that is the other answer correctly rounded is undecided: 0.33 for 1/3, 3.14 for pi.
  Otherwise a number that is only near is wrong.
- Units and currencies count only where both answers have one: 18 = $18 = 18 dollars = 18 apples. Two different units
  are undecided (nothing is converted). So are two bases; a base that only one answer writes is that of the other, or
  the other is in base ten (101_2 against 5): undecided.
- p% is the share p/100 and, against a bare number beyond 1, also the number p: 50% = 0.5 and 50% = 50, but 0.5 is
  not 50. 1% against 1 is undecided.
- A unit is made of words alone, or of a length or a word with ^ and 2 or 3. Other digits make it something else: "5
  feet 3 inches" and "2 out of 3" are undecided; so is "5 degrees below zero". Single letters but m, g,
  s and L are not units, and a number with one (5k) against a bare number is undecided: only e, i, n, x, y and z are
  taken for variables. Degrees against no unit are never wrong.
- Lists without brackets and sets are compared in any order, as multisets and as sets; `ordered=True` makes the order
  of lists count. Tuples and intervals are ordered, and their brackets count. A tuple against a list is undecided.
- Other notations show that answers are the same and never that they differ: English numbers ("five", "2 dozen", "three
  quarters"), thousands as in 1 234 567, 1'234 and 1.234.567, ]2,5[ for (2,5), and both values of a plus-minus sign. An
  inequality is the set of its solutions: "x <= -1 or x >= 4" is the union of two intervals, since either says which x.
- "x = 5" is 5, and "(B) 18" is B and 18, where the other answer has no name or letter.
- Of the answers that a text marks, the last counts. One that is denied, doubted or taken back ("I doubt that the answer
  is 5", "5. Wait, no: 6") is none, and a box is none within something larger (\\boxed{7}/8, 10-\\boxed{7}). In a
  sentence, "n!" is n or its factorial: right if either is;
  in a box, in dollars, or given alone it is the factorial. What follows a mark of the end is not read.
- An ellipsis leaves something out: undecided. 0.\\overline{3} and 0.(3) are 1/3. Combinations and permutations (5C2,
  C_5^2, P(5,2), ..) are right where their values are equal, and never wrong.
- Dates are compared with dates alone, by year, month and day; a score or range (5-3, without spaces) and letters with
  digits (CO2, IV)
  are never right where they are only equal as arithmetic. Any integer is k, m or n: 2k against 2n is
  undecided.
- Letters, answer1 .. answer9 and pairs such as true and false exclude each other. Other words are the same or
  undecided. (A) is a), and A is "(A) 18"; A against a alone, which may be a variable, is undecided.
- Everything else is read by math-verify in a process of its own, which may run out of time, of memory, or crash:
  undecided. Numbers are the same if they are equal fractions, or if they agree to twice as many digits as occur in
  them and 90 more; they differ if their values, with bounds on their errors, are certainly apart. Expressions with
  variables have to agree, or to differ, at points of all kinds, else they are undecided. So are expressions that cannot
  be read, answers over 2,000 characters, and powers of powers. Relations, limits, sums and objects of different kinds
  are never wrong. What can be read in two ways is undecided: 2/3\\pi, 2 x 3, 3 1, 3:4, 2^3^2, f^{-1}(x), x', log for
  ln, and letters in both cases.
"""

from curate.verify.extraction import ExtractedAnswer, extract, reference_answer
from curate.verify.grading import grade, grade_many, same_answer
from curate.verify.sandbox import run_program
from curate.verify.sandbox_limits import ProgramLimits, ProgramResult
from curate.verify.verdict import Verdict

__all__ = [
    "ExtractedAnswer",
    "ProgramLimits",
    "ProgramResult",
    "Verdict",
    "extract",
    "grade",
    "grade_many",
    "reference_answer",
    "run_program",
    "same_answer",
]
