"""Words, names, places and IDs for the demo model's chats.

A seeded generator makes up most of them.
"""

from __future__ import annotations

import random

SYLLABLES = (
    "ba be bi bo bu da de di do du fa fe ga go ha he ja jo ka ke ki ko ku la le li lo lu ma me mi mo mu na ne ni no nu pa "
    "pe pi po ra re ri ro ru sa se si so su ta te ti to tu va ve vi vo wa we ya yo za ze zo an en in on un ar er or al el "
    "il ol as es is os tha sha cha bra gri plo stu mer lin ton son ville burg stein ford"
).split()
PLACES = (
    "Paris London Berlin Madrid Rome Tokyo Oslo Lima Cairo Vienna Boston Dublin Prague Athens Lisbon Warsaw Sydney Toronto "
    "Chicago Seoul Delhi Zurich Geneva Hamburg Porto Nice Milan Kyoto Havana Denver"
).split()
PLACES += ["New York", "San Francisco", "Los Angeles", "Cape Town", "Hong Kong", "Rio de Janeiro", "Tel Aviv"]
NAMES = (
    "Anna Ben Clara David Emma Felix Grace Hugo Ivan Julia Karl Laura Maria Nora Oscar Paul Rosa Sam Tina Viktor Maya Liam "
    "Noah Olivia Sofia Lucas Ella Jonas Amir Yuki Chen Priya Omar Leila Alice Bob"
).split()
WORDS = (
    "red blue green small large old new fast quiet warm wooden steel paper cotton garden kitchen office winter summer lamp "
    "chair table phone book bag shoes jacket bottle clock camera bike tent pen mug desk mouse keyboard screen cable charger "
    "coffee tea bread cheese apple meeting report lunch train ticket house river music dog cat tree letter door key I you "
    "we will be late at home see tomorrow today please call me back the dinner is ready project done good luck happy birthday"
).split()
LANGUAGES = "French German Spanish Italian Japanese Korean Chinese Arabic Polish Greek Turkish Dutch".split()


def word(rng: random.Random) -> str:
    """Return a made-up word, so that the model learns to copy unseen words."""
    return "".join(rng.choice(SYLLABLES) for _ in range(rng.randint(2, 4)))


def place(rng: random.Random) -> str:
    if rng.random() < 0.25:
        return rng.choice(PLACES)
    words = [word(rng).capitalize() for _ in range(rng.choice((1, 1, 1, 2)))]
    return " ".join(words)


def person(rng: random.Random) -> str:
    return rng.choice(NAMES) if rng.random() < 0.25 else word(rng).capitalize()


def phrase(rng: random.Random, low: int, high: int) -> str:
    return " ".join(rng.choice(WORDS) if rng.random() < 0.6 else word(rng) for _ in range(rng.randint(low, high)))


def identifier(rng: random.Random) -> str:
    """Return an id such as 12345, B482 or KX-9041."""
    letters = "".join(rng.choice("ABCDEFGHJKLMNPQRSTUVWXYZ") for _ in range(rng.randint(1, 3)))
    digits = "".join(rng.choice("0123456789") for _ in range(rng.randint(2, 6)))
    return rng.choice((digits, digits, letters + digits, f"{letters}-{digits}"))


def number(rng: random.Random) -> int:
    return rng.choice((rng.randint(0, 20), rng.randint(0, 999), rng.randint(0, 99999), -rng.randint(1, 99)))
