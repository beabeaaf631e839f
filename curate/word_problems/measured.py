"""Problem families about travel, shapes, work rates and number patterns, with the levels of everyday.py."""

from __future__ import annotations

from fractions import Fraction

from curate.word_problems.solution import Draw, Problem, Solution
from curate.word_problems.wording import ITEMS, NAMES


def travel(draw: Draw, level: int) -> Problem:
    """Speed, time, distance; hours and minutes at level 4."""
    name, friend = draw.distinct(NAMES, 2)
    slow, fast, short, long = {1: (2, 9, 2, 7), 2: (4, 15, 3, 9), 3: (43, 97, 4, 19), 4: (52, 118, 3, 19)}[level]
    speed, faster = draw.integer(slow, fast), draw.integer(slow, fast)
    hours, later = draw.integer(short, long), draw.integer(short, long)
    way = (
        draw.one_of("by boat", "on a mule", "on foot", "by sledge") if level < 3 else draw.one_of("by van", "by train")
    )
    solution = Solution()
    distractor = draw.one_of(
        f"{friend} set off {draw.integer(12, 89)} minutes before.",
        f"The luggage weighs {draw.integer(12, 89)} kilograms.",
    )
    if level < 4:
        facts = [
            draw.one_of(
                f"{name} travels {way} for {hours} hours at {speed} kilometres an hour.",
                f"Going {way}, {name} keeps up {speed} kilometres an hour for {hours} hours.",
                f"At {speed} kilometres an hour, {name} is under way {way} for {hours} hours.",
            )
        ]
        way_one = solution.multiply("distance", "kilometres", speed, hours)
        if level == 1:
            if draw.chance(0.5):
                facts.append(
                    draw.one_of(
                        f"After a rest {later} kilometres more follow.",
                        f"The last {later} kilometres are on a bus.",
                    )
                )
                solution.add("whole way", "kilometres", way_one, later)
            question = draw.one_of(f"How many kilometres does {name} cover?", "How long is the way in kilometres?")
            return Problem(facts, question, "", solution.steps)
    else:
        minutes = draw.one_of(6, 9, 12, 18, 21, 24, 27, 33, 36, 39, 42, 48, 51, 54, 57)
        facts = [
            draw.one_of(
                f"{name} goes {way} for {hours} hours and {minutes} minutes at {speed} kilometres an hour.",
                f"{name} does {speed} kilometres an hour {way} for {hours} hours and {minutes} minutes.",
            )
        ]
        part = solution.divide("time beyond full hours", "hours", minutes, 60)
        time = solution.add("time", "hours", hours, part)
    facts.append(
        draw.one_of(
            f"Then it goes on for {later} hours at {faster} kilometres an hour.",
            f"After a break {name} covers {faster} kilometres an hour for another {later} hours.",
        )
    )
    if level == 4:
        use = draw.integer(23, 98)
        facts.append(f"Every kilometre uses {use} millilitres of fuel.")
        total = solution.combine("whole way", "kilometres", (time, speed), (faster, later))
        solution.multiply("fuel", "millilitres", total, use)
        return Problem(facts, "How many millilitres of fuel is that?", distractor, solution.steps)
    way_two = solution.multiply("second distance", "kilometres", faster, later)
    if level == 2:
        solution.add("whole way", "kilometres", way_one, way_two)
        return Problem(facts, f"How many kilometres does {name} cover in all?", "", solution.steps)
    goal = speed * hours + faster * later + draw.integer(123, 987)
    facts.append(f"The whole journey is {goal} kilometres.")
    solution.subtract("rest", "kilometres", goal, way_one, way_two)
    return Problem(facts, "How many kilometres are still to go?", distractor, solution.steps)


def geometry(draw: Draw, level: int) -> Problem:
    """Areas and volumes with units."""
    name = draw.one_of(*NAMES)
    solution = Solution()
    if level == 1:
        item = draw.one_of("rug", "tray", "flower bed", "poster", "sandpit", "blanket", "banner", "mat")
        wide, tall = draw.integer(2, 9), draw.integer(2, 7)
        facts = [
            draw.one_of(
                f"{name} has a rectangular {item}, {wide} feet by {tall} feet.",
                f"The {item} that {name} made is a rectangle of {wide} feet by {tall} feet.",
                f"A rectangular {item} of {name}'s is {wide} feet long and {tall} feet wide.",
            )
        ]
        if draw.chance(0.5):
            solution.multiply("area", "square feet", wide, tall)
            return Problem(facts, f"What is the area of the {item} in square feet?", "", solution.steps)
        half = solution.add("two sides", "feet", wide, tall)
        solution.multiply("perimeter", "feet", half, 2)
        return Problem(facts, f"How many feet is it all around the {item}?", "", solution.steps)
    if level == 2:
        wide, tall = draw.integer(6, 20), draw.integer(5, 12)
        pond, deep = draw.integer(2, 5), draw.integer(2, 4)
        facts = [
            f"{name} has a rectangular garden of {wide} metres by {tall} metres.",
            draw.one_of(
                f"A pond of {pond} metres by {deep} metres is in it.",
                f"In it a shed takes up {pond} metres by {deep} metres.",
            ),
        ]
        area = solution.multiply("area", "square metres", wide, tall)
        hole = solution.multiply("area taken", "square metres", pond, deep)
        solution.subtract("rest", "square metres", area, hole)
        return Problem(facts, "How many square metres are left for grass?", "", solution.steps)
    if level == 3:
        wide, tall, border = draw.integer(23, 89), draw.integer(23, 89), draw.integer(3, 9)
        facts = [
            draw.one_of(
                f"{name} owns a pool of {wide} metres by {tall} metres.",
                f"A field of {name}'s measures {wide} metres by {tall} metres.",
            ),
            f"All around it runs a path that is {border} metres wide.",
        ]
        distractor = f"It was laid out {draw.integer(12, 89)} years ago."
        outer_wide = solution.add("outer length", "metres", wide, border, border)
        outer_tall = solution.add("outer width", "metres", tall, border, border)
        solution.combine("path", "square metres", (outer_wide, outer_tall), less=[(wide, tall)])
        return Problem(facts, "What is the area of the path in square metres?", distractor, solution.steps)
    wide, tall, deep = draw.integer(113, 489), draw.integer(83, 189), draw.integer(43, 98)
    minutes = draw.integer(13, 67)
    rate = wide * tall * deep // 1000 // (minutes + draw.integer(5, 40))
    facts = [
        draw.one_of(
            f"{name} fills a tank of {wide} by {tall} by {deep} centimetres with water.",
            f"A full tank of {name}'s is {wide} centimetres long, {tall} wide and {deep} deep.",
        ),
        f"Through a hole {rate} litres run out every minute, for {minutes} minutes.",
    ]
    distractor = f"The tank itself weighs {draw.integer(12, 89)} kilograms."
    volume = solution.multiply("volume", "cubic centimetres", wide, tall, deep)
    litres = solution.divide("volume in litres", "litres", volume, 1000)
    solution.combine("rest", "litres", (litres,), less=[(rate, minutes)])
    return Problem(facts, "How many litres are left in the tank?", distractor, solution.steps)


def work(draw: Draw, level: int) -> Problem:
    """Work rates; at level 4 fractions of a job."""
    name, friend = draw.distinct(NAMES, 2)
    item = draw.one_of(*ITEMS)
    verb = draw.one_of("makes", "paints", "packs", "cleans", "wraps")
    solution = Solution()
    if level == 1:
        rate, hours, ready = draw.integer(2, 9), draw.integer(2, 7), draw.integer(2, 9)
        facts = [
            f"{name} {verb} {rate} {item} an hour.",
            draw.one_of(f"The shift is {hours} hours.", f"{name} goes on for {hours} hours."),
        ]
        done = solution.multiply("number", item, rate, hours)
        if draw.chance(0.5):
            facts.append(f"There were {ready} finished {item} before.")
            solution.add("total", item, done, ready)
        return Problem(facts, f"How many finished {item} are there then?", "", solution.steps)
    if level == 2:
        rate, second, hours = draw.integer(3, 12), draw.integer(3, 12), draw.integer(3, 9)
        order = (rate + second) * hours + draw.integer(5, 40)
        facts = [
            draw.one_of(
                f"{name} {verb} {rate} {item} an hour, and {friend} {second}.",
                f"While {name} {verb} {rate} {item} an hour, {friend} manages {second}.",
            ),
            f"They work side by side for {hours} hours, and {order} {item} are wanted.",
        ]
        both = solution.add("number an hour", item, rate, second)
        done = solution.multiply("number done", item, both, hours)
        solution.subtract("rest", item, order, done)
        return Problem(facts, f"How many {item} are still missing?", "", solution.steps)
    distractor = f"{friend} has worked there for {draw.integer(12, 39)} years."
    if level == 3:
        rate, second, hours = draw.integer(23, 89), draw.integer(23, 89), draw.integer(7, 29)
        alone = draw.integer(13, 59)
        order = (rate + second) * hours + rate * alone
        facts = [
            f"{name} {verb} {rate} {item} an hour and {friend} {second}.",
            f"Of {order} {item} they do what they can in {hours} hours together, then {name} goes on alone.",
        ]
        both = solution.add("number an hour", item, rate, second)
        rest = solution.combine("rest", item, (order,), less=[(both, hours)])
        solution.divide("time alone", "hours", rest, rate)
        return Problem(facts, f"For how many hours does {name} work alone?", distractor, solution.steps)
    days, second, together = 3 * draw.integer(4, 15), 3 * draw.integer(4, 15), draw.integer(2, 5)
    lots = draw.integer(2, 9)
    order, wage = days * second * lots, draw.integer(13, 98)
    facts = [
        f"Alone, {name} would need {days} days for an order of {order} {item}, and {friend} {second} days.",
        f"After {together} days together they give the rest to a machine, at {wage} cents for each.",
    ]
    both = solution.add("part a day", "of the order", Fraction(1, days), Fraction(1, second))
    rest = solution.combine("part left", "of the order", (1,), less=[(both, together)])
    solution.multiply("price", "cents", rest, order, wage)
    return Problem(facts, "How many cents does the machine cost?", distractor, solution.steps)


def patterns(draw: Draw, level: int) -> Problem:
    """Sequences and remainders."""
    name = draw.one_of(*NAMES)
    item = draw.one_of(*ITEMS)
    solution = Solution()
    if level == 1:
        start, step, days = draw.integer(2, 9), draw.integer(2, 7), draw.integer(2, 5)
        facts = [
            draw.one_of(f"{name} starts with {start} {item}.", f"On a shelf of {name}'s are {start} {item}."),
            draw.one_of(f"Each day {step} more are added.", f"Every day brings {step} more."),
        ]
        added = solution.multiply("growth", item, step, days)
        solution.add("number", item, added, start)
        return Problem(facts, f"How many {item} are there after {days} days?", "", solution.steps)
    if level == 2:
        size, boxes = draw.integer(4, 12), draw.integer(3, 12)
        number, price = size * boxes + draw.integer(1, size - 1), draw.integer(2, 9)
        facts = [
            draw.one_of(
                f"{name} has {number} {item} for boxes of {size}.",
                f"In boxes of {size}, {name} packs {number} {item}.",
            ),
            draw.one_of(f"{boxes} boxes get full.", f"That fills {boxes} boxes."),
            f"What is left over is sold at ${price} apiece.",
        ]
        packed = solution.multiply("packed", item, boxes, size)
        rest = solution.subtract("rest", item, number, packed)
        solution.multiply("price", "dollars", rest, price)
        return Problem(facts, "How many dollars do the left over ones bring?", "", solution.steps)
    if level == 3:
        start, step, days = draw.integer(17, 89), draw.integer(4, 19), draw.integer(13, 39)
        facts = [
            draw.one_of(f"On the first day {name} sells {start} {item}.", f"{name} sells {start} {item} on day one."),
            draw.one_of(f"Each day it is {step} more than the day before.", f"The number grows by {step} a day."),
        ]
        distractor = f"The shop is open for {draw.integer(5, 12)} hours a day."
        last = solution.combine("last day", item, (start,), (days - 1, step))
        ends = solution.add("sum of first and last day", item, start, last)
        solution.multiply("sum", item, ends, days, Fraction(1, 2))
        return Problem(facts, f"How many {item} are sold in {days} days?", distractor, solution.steps)
    crates, per_crate, size = draw.integer(113, 489), draw.integer(43, 98), draw.integer(17, 39)
    price, fee = draw.integer(113, 489), draw.integer(13, 98)
    boxes = crates * per_crate // size
    facts = [
        draw.one_of(
            f"{name} gets {crates} crates of {per_crate} {item} and packs them into boxes of {size}.",
            f"Boxes of {size} are packed by {name} from {crates} crates with {per_crate} {item} each.",
        ),
        f"A full box earns ${price}, and every one of the {item} left over costs ${fee}.",
    ]
    distractor = f"A crate weighs {draw.integer(12, 89)} kilograms."
    total = solution.multiply("total", item, crates, per_crate)
    rest = solution.combine("rest", item, (total,), less=[(boxes, size)])
    solution.combine("gain", "dollars", (boxes, price), less=[(rest, fee)])
    return Problem(facts, "How many dollars does that bring in the end?", distractor, solution.steps)
