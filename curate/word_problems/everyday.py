"""Problem families about money, mixtures, ages and shares."""

from __future__ import annotations

from fractions import Fraction

from curate.word_problems.solution import Draw, Problem, Solution
from curate.word_problems.wording import ITEMS, NAMES

# Each function draws one problem of a level:
# 1: one or two steps with small numbers;
# 2: two or three steps with one and two digits;
# 3: three steps with two and three digits, some of them with more than one operation, and often a fact that does
#    not matter;
# 4: three or four such steps with long numbers, decimals or fractions, units to convert or a quantity to be
#    worked out backwards, and mostly a fact that does not matter.


def shopping(draw: Draw, level: int) -> Problem:
    """Totals, change, discounts."""
    name, friend = draw.distinct(NAMES, 2)
    first, second = draw.distinct(ITEMS, 2)
    low, high, cheap, dear = {
        1: (2, 9, 2, 7),
        2: (3, 12, 4, 15),
        3: (13, 49, 17, 89),
        4: (114, 489, 123, 987),
    }[level]
    many, more = draw.integer(low, high), draw.integer(low, high)
    price, dearer = draw.integer(cheap, dear), draw.integer(cheap, dear)
    solution = Solution()
    facts = [
        draw.one_of(
            f"{name} buys {many} {first} at ${price} each.",
            f"{name} goes to the market and picks {many} {first}, which cost ${price} apiece.",
            f"One of the {first} costs ${price}, and {name} takes {many} of them.",
        )
    ]
    distractor = draw.one_of(
        f"{friend} has ${draw.integer(low, dear)} to spend but buys nothing.",
        f"The shop opened {draw.integer(low, high)} weeks ago.",
        f"There are {draw.integer(low, high)} other people in the shop.",
    )
    if level == 1:
        cost = solution.multiply("cost", "dollars", many, price)
        if draw.chance(0.5):
            facts.append(draw.one_of(f"A bag costs ${dearer} more.", f"{name} also pays ${dearer} for parking."))
            solution.add("total", "dollars", cost, dearer)
        question = draw.one_of(f"How many dollars does {name} spend?", "How much is there to pay, in dollars?")
        return Problem(facts, question, "", solution.steps)
    facts.append(
        draw.one_of(
            f"There are also {more} {second} in the basket, at ${dearer} each.",
            f"For {friend}, {name} adds {more} {second} at ${dearer} apiece.",
        )
    )
    if level == 2:
        cost = solution.multiply("cost", "dollars", many, price)
        extra = solution.multiply("second cost", "dollars", more, dearer)
        solution.add("total", "dollars", cost, extra)
        return Problem(facts, f"What does {name} pay in all, in dollars?", "", solution.steps)
    share = draw.one_of(10, 20, 25, 50) if level == 3 else draw.integer(3, 38)
    facts.append(
        draw.one_of(f"The till takes {share}% off the whole bill.", f"With a voucher, everything is {share}% cheaper.")
    )
    total = solution.combine("total", "dollars", (many, price), (more, dearer))
    discount = solution.percent("discount", "dollars", share, total)
    if level == 3:
        solution.subtract("price", "dollars", total, discount)
    else:
        delivery = draw.integer(113, 987)
        facts.append(f"Delivery adds ${delivery} after the discount.")
        solution.combine("price", "dollars", (total,), (delivery,), less=[(discount,)])
    return Problem(facts, f"How many dollars does {name} pay?", distractor, solution.steps)


def mixtures(draw: Draw, level: int) -> Problem:
    """Ratios and concentrations."""
    name = draw.one_of(*NAMES)
    drink = draw.one_of("lemonade", "punch", "squash", "iced tea", "cordial", "fruit soup")
    solution = Solution()
    if level == 1:
        cups, cups_each = draw.integer(2, 9), draw.integer(2, 7)
        facts = [
            draw.one_of(
                f"For {drink}, {name} mixes {cups_each} cups of water with every cup of syrup.",
                f"{name} makes {drink} from {cups_each} cups of water to each cup of syrup.",
            ),
            draw.one_of(f"There are {cups} cups of syrup.", f"{name} uses up {cups} cups of syrup."),
        ]
        water = solution.multiply("water", "cups", cups, cups_each)
        if draw.chance(0.5):
            return Problem(facts, "How many cups of water are needed?", "", solution.steps)
        solution.add("mixture", "cups", water, cups)
        return Problem(facts, f"How many cups of {drink} does that make?", "", solution.steps)
    if level == 2:
        a, b = draw.distinct(range(2, 8), 2)
        total = (a + b) * draw.integer(3, 11)
        facts = [
            f"{name} makes {drink} with juice and water in the ratio {a} to {b}.",
            draw.one_of(f"The bowl holds {total} spoons of it.", f"In all there are {total} spoons of {drink}."),
        ]
        parts = solution.add("number of parts", "parts", a, b)
        each_part = solution.divide("size of a part", "spoons", total, parts)
        solution.multiply("juice", "spoons", each_part, a)
        return Problem(facts, "How many spoons of juice are in it?", "", solution.steps)
    if level == 3:
        a, b, c = sorted(draw.distinct(range(2, 14), 3))
        total = (a + b + c) * draw.integer(13, 67)
        facts = [
            draw.one_of(
                f"{name} mixes sand, gravel and cement in the ratio {c} to {b} to {a}.",
                f"A floor needs sand, gravel and cement as {c} to {b} to {a}, says {name}.",
            ),
            draw.one_of(f"The heap weighs {total} kilograms.", f"Altogether {total} kilograms are wanted."),
        ]
        distractor = f"The lorry can carry {draw.integer(800, 4000)} kilograms."
        parts = solution.add("number of parts", "parts", c, b, a)
        each_part = solution.divide("size of a part", "kilograms", total, parts)
        solution.combine("difference", "kilograms", (each_part, c), less=[(each_part, a)])
        return Problem(facts, "How many kilograms more sand than cement is that?", distractor, solution.steps)
    big, small = draw.integer(1113, 9876), draw.integer(213, 987)
    strong, weak = draw.integer(23, 78), draw.integer(3, 19)
    facts = [
        f"A tank holds {big} litres of brine that is {weak}% salt by volume.",
        draw.one_of(
            f"{name} pours in {small} litres of brine with {strong}% salt.",
            f"Then {small} litres of a stronger brine, {strong}% salt, are added by {name}.",
        ),
    ]
    distractor = f"The tank could hold {draw.integer(12000, 19000)} litres."
    old = solution.percent("salt at first", "litres", weak, big)
    new = solution.percent("added salt", "litres", strong, small)
    solution.combine("rest", "litres", (big,), (small,), less=[(old,), (new,)])
    return Problem(facts, "How many litres in the tank are not salt?", distractor, solution.steps)


def ages(draw: Draw, level: int) -> Problem:
    """Ages of children, then of buildings."""
    name, friend = draw.distinct(NAMES, 2)
    solution = Solution()
    if level == 1:
        age, gap = draw.integer(2, 9), draw.integer(2, 7)
        facts = [
            draw.one_of(f"{name} is {age} years old.", f"{name} has just turned {age}."),
            draw.one_of(f"{friend} is {gap} years older than {name}.", f"{name} is {gap} years younger than {friend}."),
        ]
        older = solution.add("age", "years", age, gap)
        if draw.chance(0.5):
            return Problem(facts, f"How old is {friend}?", "", solution.steps)
        solution.add("sum", "years", older, age)
        return Problem(facts, f"How old are {name} and {friend} together?", "", solution.steps)
    if level == 2:
        age, factor, later = draw.integer(4, 15), draw.integer(2, 5), draw.integer(3, 15)
        facts = [
            draw.one_of(f"{name} is {age} years old.", f"{name} has just turned {age}."),
            f"{friend} is {factor} times as old as {name}.",
        ]
        older = solution.multiply("age", "years", age, factor)
        both = solution.add("sum", "years", older, age)
        solution.add("sum later", "years", both, later, later)
        return Problem(facts, f"How old will {name} and {friend} be together in {later} years?", "", solution.steps)
    place, second, third = draw.distinct(("castle", "bridge", "mill", "tower", "church", "town hall", "harbour"), 3)
    factor, more, less = draw.integer(2, 4), draw.integer(43, 98), draw.integer(13, 79)
    distractor = f"The {third} was painted {draw.integer(12, 98)} years ago."
    facts = [f"{name} reads that the {second} is {factor} times as old as the {place}, plus {more} years."]
    if level == 3:
        age = draw.integer(87, 389)
        facts.insert(0, f"The {place} is {age} years old.")
        facts.append(f"The {third} is {less} years younger than the {second}.")
        older = solution.combine("second age", "years", (age, factor), (more,))
        youngest = solution.subtract("third age", "years", older, less)
        solution.add("sum", "years", age, older, youngest)
        return Problem(facts, "How old are the three together?", distractor, solution.steps)
    age, now = draw.integer(134, 589), draw.integer(2031, 2998)
    total = age + 2 * (age * factor + more) - less
    facts.append(f"The {third} is {less} years younger than the {second}.")
    facts.append(f"Together the three are {total} years old, and the story is set in the year {now}.")
    multiples = solution.combine("sum of the multiples", "years", (total,), (less,), less=[(2, more)])
    parts = solution.add("number of multiples", "parts", 1, factor, factor)
    youngest = solution.divide("age", "years", multiples, parts)
    solution.subtract("year", "of our era", now, youngest)
    return Problem(facts, f"In which year was the {place} built?", distractor, solution.steps)


def percentages(draw: Draw, level: int) -> Problem:
    """Fractions and percentages of a stock."""
    name = draw.one_of(*NAMES)
    item = draw.one_of(*ITEMS)
    solution = Solution()
    if level == 1:
        bottom, word = draw.one_of((2, "half"), (3, "a third"), (4, "a quarter"), (5, "a fifth"))
        part, new = draw.integer(3, 9), draw.integer(2, 9)
        number, lost = bottom * part, draw.integer(1, part - 1)
        facts = [
            draw.one_of(f"{name} has {number} {item}.", f"There are {number} {item} on {name}'s shelf."),
            draw.one_of(f"Of these, {word} are red.", f"{name} finds that {word} of them are red."),
        ]
        red = solution.divide("number of red ones", item, number, bottom)
        if draw.chance(0.5):
            facts.append(
                draw.one_of(f"Then {lost} of the red ones break.", f"{name} gives away {lost} of the red ones.")
            )
            solution.subtract("rest", item, red, lost)
        else:
            facts.append(draw.one_of(f"Then {new} new red ones come.", f"{name} gets {new} more red ones."))
            solution.add("total", item, red, new)
        return Problem(facts, f"How many red {item} are there now?", "", solution.steps)
    if level == 2:
        share, number, new = draw.one_of(10, 20, 25, 50), 20 * draw.integer(2, 15), draw.integer(3, 30)
        facts = [
            draw.one_of(f"{name} has {number} {item} in stock.", f"A shelf of {name}'s shop has {number} {item}."),
            draw.one_of(f"On Monday {share}% of them are sold.", f"{share}% of them go to a school."),
        ]
        sold = solution.percent("part", item, share, number)
        rest = solution.subtract("rest", item, number, sold)
        if draw.chance(0.5):
            return Problem(facts, f"How many {item} are left?", "", solution.steps)
        facts.append(f"Then {new} new ones arrive.")
        solution.add("new stock", item, rest, new)
        return Problem(facts, f"How many {item} are there now?", "", solution.steps)
    share = draw.integer(11, 89)
    if level == 3:
        bottom = draw.integer(3, 9)
        top = draw.integer(1, bottom - 1)
        number, new = 100 * bottom * draw.integer(2, 9), draw.integer(113, 987)
        facts = [
            draw.one_of(f"{name} orders {number} {item}.", f"A warehouse of {name}'s holds {number} {item}."),
            f"{top}/{bottom} of them are damaged and thrown away, and of the others {share}% are sold.",
            f"Later {new} more are delivered.",
        ]
        good = solution.multiply("undamaged part", item, number, Fraction(bottom - top, bottom))
        sold = solution.percent("part sold", item, share, good)
        solution.combine("stock", item, (good,), (new,), less=[(sold,)])
        distractor = f"Each weighs {draw.integer(110, 950)} grams."
        return Problem(facts, f"How many {item} are in stock at the end?", distractor, solution.steps)
    number, fall, used = draw.integer(213, 989) * 100, draw.integer(3, 47), draw.integer(1113, 4987)
    share = draw.integer(3, 47)
    facts = [
        draw.one_of(
            f"{name} looks after {number} tonnes of grain.",
            f"A silo of {name}'s has {number} tonnes of grain.",
        ),
        f"In the first year the stock grows by {share}%, in the second it falls by {fall}%.",
        f"After that {used} tonnes are shipped.",
    ]
    grown = solution.percent("first year", "tonnes", 100 + share, number)
    left = solution.percent("second year", "tonnes", 100 - fall, grown)
    solution.subtract("rest", "tonnes", left, used)
    distractor = f"A tonne sells for ${draw.integer(113, 389)}."
    return Problem(facts, "How many tonnes of grain are left?", distractor, solution.steps)
