"""What memories are made of: names, attributes with their values, and relations.

No value is part of another one, of a name, or of the words of an attribute or a relation: replies are judged by which
of them they hold.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random
from typing import Literal, NamedTuple

from environments.memory.phrases import normal


def listed(text: str) -> tuple[str, ...]:
    """The words of a text."""
    return tuple(text.split())


Kind = Literal["user", "person", "organisation", "place"]

FIRST = listed(
    "Ada Anton Bela Bruno Carla Casper Dora Dario Elif Emil Flora Felix Greta Gustav Hanna Henrik Ines Ivan Jana Jonas "
    "Karin Kaspar Lena Lukas Mara Milan Nadia Nils Olga Oskar Petra Pavel Rosa Ruben Selma Simon Tilda Tomas Vera "
    "Viktor"
)
LAST = listed(
    "Aalto Bergmann Brandt Castell Dahlgren Dvorak Eklund Farkas Ferrante Galvan Halvorsen Ibsen Janssen Kessler "
    "Kowalski Lindqvist Marek Moreau Nemeth Novotny Okafor Olsen Pellerin Quist Rinaldi Sandoval Thorne Ustinov "
    "Vandermeer Weissmann Yilmaz Zanetti"
)
TOWNS = listed(
    "Altenmoor Birkhagen Corvale Dunmarsh Eversund Fallowick Grimsta Harrowby Ilmenau Juniper Kestrelford Lorvik "
    "Mossgate Nettlebury Oldenhook Pinewater Quarrington Ravensby Stonefleet Thistledown Ulverton Vinterby Westerhaven "
    "Yarrowmere"
)
HOUSES = listed("Amberlight Bluewater Copperfield Driftwood Evergreen Foxglove Goldcrest Highgate Ironbridge Larkspur")
TRADES = listed("Bindery Cooperative Dairy Foundry Garage Laundry Nursery Printworks Shipyard Weaving")
ORGANISATIONS = tuple(f"{house} {trade}" for house in HOUSES for trade in TRADES)


class Attribute(NamedTuple):
    """A key of facts. ``draw`` makes a value, ``pattern`` finds values in text that ``normal`` has made plain."""

    key: str
    draw: Callable[[Random], str]
    pattern: re.Pattern[str]


def words(key: str) -> str:
    """A key as it is said: ``phone_number`` is a phone number."""
    return key.replace("_", " ")


def _pattern(values: str) -> re.Pattern[str]:
    return re.compile(f"(?<= )(?:{values})(?= )")


def _one_of(key: str, *values: str) -> Attribute:
    return Attribute(key, lambda chance: chance.choice(values), _pattern("|".join(normal(v).strip() for v in values)))


def _date(chance: Random) -> str:
    return f"{chance.randint(1940, 2009)}-{chance.randint(1, 12):02}-{chance.randint(1, 28):02}"


DATE = Attribute("birth_date", _date, _pattern(r"\d{4} \d{2} \d{2}"))
PHONE = Attribute("phone_number", lambda chance: f"555-{chance.randint(0, 9999):04}", _pattern(r"555 \d{4}"))
SHOES = Attribute("shoe_size", lambda chance: str(chance.randint(34, 48)), _pattern(r"\d{2}"))
YEAR = Attribute("founding_year", lambda chance: str(chance.randint(1650, 1935)), _pattern(r"\d{4}"))

PERSONAL = (
    DATE,
    PHONE,
    SHOES,
    _one_of("occupation", *listed("potter baker nurse joiner florist pilot tailor librarian glazier beekeeper welder")),
    _one_of("favourite_dish", *listed("paella goulash ramen ratatouille pierogi moussaka risotto couscous borscht")),
    _one_of("favourite_colour", *listed("teal crimson indigo ochre magenta turquoise maroon lavender beige scarlet")),
    _one_of("instrument", *listed("cello accordion oboe mandolin trombone bassoon harpsichord banjo viola ukulele")),
    _one_of("allergy", *listed("peanuts pollen latex shellfish penicillin sesame nickel wool strawberries mustard")),
    _one_of("pet", *listed("parrot tortoise hamster greyhound ferret goldfish rabbit poodle canary gecko")),
)
DAYS = listed("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
PUBLIC = (
    PHONE,
    YEAR,
    _one_of("closing_day", *DAYS),
    _one_of("product", *listed("candles barrels umbrellas bicycles carpets cheese bells kayaks hammocks lanterns")),
)
LOCAL = (
    YEAR,
    _one_of("market_day", *DAYS),
    _one_of("river", *listed("Elda Mirren Tavra Ossel Brune Keld Wyra Sorne Lindra Varn")),
    _one_of(
        "speciality", *listed("gingerbread cider pretzels marzipan mead sauerkraut nougat dumplings plums vinegar")
    ),
)
ATTRIBUTES: dict[Kind, tuple[Attribute, ...]] = {
    "user": PERSONAL,
    "person": PERSONAL,
    "organisation": PUBLIC,
    "place": LOCAL,
}
BY_KEY = {attribute.key: attribute for group in ATTRIBUTES.values() for attribute in group}

TO_PERSON = listed(
    "cousin neighbour dentist best_friend mentor flatmate boss godparent lawyer tutor teammate accountant"
)
RELATIONS: dict[Kind, dict[Kind, tuple[str, ...]]] = {
    "user": {"person": TO_PERSON, "organisation": ("employer", "bank", "gym"), "place": ("home_town", "birthplace")},
    "person": {"person": TO_PERSON, "organisation": ("employer", "bank"), "place": ("home_town", "birthplace")},
    "organisation": {"person": ("director", "founder"), "place": ("seat",)},
    "place": {"person": ("mayor",), "organisation": ("sponsor",)},
}
"""From one kind to another."""
