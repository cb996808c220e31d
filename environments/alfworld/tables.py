"""What stands in a room, what can lie where, and what can be done to it. Kinds are named as ALFRED names them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Room = Mapping[str, tuple[int, int]]
"""Kind of place to the fewest and the most of it."""

TaskType = Literal[
    "pick_and_place_simple",
    "look_at_obj_in_light",
    "pick_clean_then_place",
    "pick_heat_then_place",
    "pick_cool_then_place",
    "pick_two_obj_and_place",
]

ROOMS: Mapping[str, Room] = {
    "kitchen": {
        "cabinet": (3, 6),
        "coffeemachine": (0, 1),
        "countertop": (1, 3),
        "diningtable": (0, 1),
        "drawer": (2, 4),
        "fridge": (1, 1),
        "garbagecan": (1, 1),
        "microwave": (1, 1),
        "shelf": (0, 2),
        "sinkbasin": (1, 1),
        "stoveburner": (2, 4),
    },
    "living room": {
        "armchair": (0, 2),
        "cabinet": (0, 3),
        "coffeetable": (1, 2),
        "diningtable": (0, 1),
        "drawer": (1, 4),
        "dresser": (0, 1),
        "garbagecan": (1, 1),
        "safe": (0, 1),
        "shelf": (0, 4),
        "sidetable": (1, 3),
        "sofa": (1, 1),
        "tvstand": (0, 1),
    },
    "bedroom": {
        "armchair": (0, 1),
        "bed": (1, 1),
        "cabinet": (0, 2),
        "desk": (1, 2),
        "drawer": (2, 5),
        "dresser": (0, 1),
        "garbagecan": (1, 1),
        "laundryhamper": (0, 1),
        "safe": (0, 1),
        "shelf": (1, 4),
        "sidetable": (0, 2),
    },
    "bathroom": {
        "bathtubbasin": (0, 1),
        "cabinet": (2, 4),
        "cart": (0, 1),
        "countertop": (1, 1),
        "drawer": (0, 3),
        "garbagecan": (1, 1),
        "handtowelholder": (1, 2),
        "shelf": (0, 3),
        "sinkbasin": (1, 2),
        "toilet": (1, 1),
        "toiletpaperhanger": (1, 1),
        "towelholder": (1, 1),
    },
}

SMALL_ROOMS: Mapping[str, Room] = {
    "kitchen": {
        "countertop": (0, 1),
        "diningtable": (0, 1),
        "garbagecan": (0, 1),
        "microwave": (1, 1),
        "shelf": (0, 1),
        "sinkbasin": (0, 1),
    },
}


def _row(kinds: str) -> tuple[str, ...]:
    return tuple(kinds.split())


def _set(kinds: str) -> frozenset[str]:
    return frozenset(kinds.split())


_LIVED_IN = _row("""alarmclock baseballbat basketball book bowl box candle cd cellphone creditcard keychain laptop mug
    newspaper pen pencil pillow plate remotecontrol statue teddybear tennisracket tissuebox vase watch wateringcan""")

THINGS: Mapping[str, tuple[str, ...]] = {
    "kitchen": _row("""apple bowl bread butterknife cup dishsponge egg fork glassbottle kettle knife ladle lettuce mug
        pan peppershaker plate pot potato saltshaker soapbottle spatula spoon tomato vase winebottle"""),
    "living room": _LIVED_IN,
    "bedroom": (*_LIVED_IN, "cloth"),
    "bathroom": _row(
        "candle cloth dishsponge handtowel plunger soapbar soapbottle spraybottle tissuebox toiletpaper towel"
    ),
}
"""Kinds of things in a room."""

SMALL_THINGS: Mapping[str, tuple[str, ...]] = {"kitchen": _row("apple bowl bread cup egg mug plate potato")}

_TABLES = "coffeetable countertop desk diningtable dresser shelf sidetable tvstand"
_STORES = "cabinet drawer"
_FOOD = "countertop diningtable fridge garbagecan microwave sinkbasin"
_DISH = f"{_TABLES} cabinet fridge microwave sinkbasin"
_PAN = "cabinet countertop diningtable fridge sinkbasin stoveburner"
_CUTLERY = "countertop diningtable drawer sinkbasin"
_SHAKER = "cabinet countertop diningtable drawer shelf"
_SEATS = "armchair bed sofa"
_PAPER = f"{_TABLES} {_SEATS} drawer"
_GADGET = f"{_TABLES} {_SEATS} drawer safe"
_ORNAMENT = f"{_TABLES} cabinet safe"
_SOAP = "bathtubbasin cabinet cart countertop drawer garbagecan shelf sinkbasin toilet"
_ROLL = f"cart countertop toilet {_STORES} {_TABLES} garbagecan"

HOMES: Mapping[str, frozenset[str]] = {
    thing: _set(places)
    for thing, places in {
        "alarmclock": f"{_TABLES} drawer bed",
        "apple": _FOOD,
        "baseballbat": f"{_SEATS} coffeetable desk",
        "basketball": f"{_SEATS} coffeetable desk dresser",
        "book": f"{_TABLES} {_SEATS} {_STORES}",
        "bowl": _DISH,
        "box": f"{_TABLES} {_SEATS} cabinet",
        "bread": _FOOD,
        "butterknife": _CUTLERY,
        "candle": f"{_TABLES} {_STORES} cart toilet bathtubbasin",
        "cd": f"{_TABLES} drawer safe garbagecan",
        "cellphone": _GADGET,
        "cloth": "bathtubbasin cabinet cart countertop drawer dresser laundryhamper sinkbasin toilet",
        "creditcard": _GADGET,
        "cup": f"{_DISH} coffeemachine",
        "dishsponge": "bathtubbasin cabinet cart countertop drawer garbagecan sinkbasin toilet",
        "egg": _FOOD,
        "fork": _CUTLERY,
        "glassbottle": "cabinet countertop diningtable fridge garbagecan shelf sinkbasin",
        "handtowel": "countertop handtowelholder sinkbasin",
        "kettle": "cabinet countertop diningtable sinkbasin stoveburner",
        "keychain": _GADGET,
        "knife": _CUTLERY,
        "ladle": _CUTLERY,
        "laptop": f"{_SEATS} coffeetable desk diningtable dresser sidetable",
        "lettuce": "countertop diningtable fridge garbagecan sinkbasin",
        "mug": f"{_DISH} coffeemachine",
        "newspaper": f"{_PAPER} garbagecan toilet",
        "pan": _PAN,
        "pen": f"{_TABLES} drawer garbagecan",
        "pencil": f"{_TABLES} drawer garbagecan",
        "peppershaker": _SHAKER,
        "pillow": _SEATS,
        "plate": _DISH,
        "plunger": "cabinet bathtubbasin",
        "pot": _PAN,
        "potato": _FOOD,
        "remotecontrol": f"{_TABLES} {_SEATS} drawer",
        "saltshaker": _SHAKER,
        "soapbar": _SOAP,
        "soapbottle": _SOAP,
        "spatula": _CUTLERY,
        "spoon": _CUTLERY,
        "spraybottle": _SOAP,
        "statue": _ORNAMENT,
        "teddybear": f"{_SEATS} coffeetable desk",
        "tennisracket": f"{_SEATS} coffeetable desk dresser",
        "tissuebox": _ROLL,
        "toiletpaper": f"{_ROLL} toiletpaperhanger",
        "tomato": _FOOD,
        "towel": "bathtubbasin countertop towelholder",
        "vase": _ORNAMENT,
        "watch": _GADGET,
        "wateringcan": f"{_TABLES} cabinet",
        "winebottle": "cabinet countertop diningtable fridge garbagecan shelf",
    }.items()
}
"""Kind of thing to the kinds of places where it can lie and be put."""

DOORS = _set("cabinet drawer fridge microwave safe")
"""Places that are closed at the start and hold nothing that can be seen or reached until they are opened."""

HOLLOW = DOORS | _set("bathtubbasin cart garbagecan laundryhamper sinkbasin")
"""Things lie in these places and on the others."""

MOST_IN_A_PLACE = 5
NARROW = _set("coffeemachine handtowelholder microwave stoveburner toiletpaperhanger towelholder")
"""Places where one thing lies at the most at the start, where others have ``MOST_IN_A_PLACE``. Play has no limit."""

LAMP = "desklamp"
LAMP_STANDS = _set("coffeetable desk dresser sidetable")
LIT_ROOMS = ("bedroom", "living room")
"""Rooms with a lamp: it stands on one of ``LAMP_STANDS``, and cannot be taken."""

KNIVES = _set("butterknife knife")
SLICEABLE = _set("apple bread lettuce potato tomato")

APPLIANCES: Mapping[str, tuple[str, str, frozenset[str]]] = {
    "heat": ("microwave", "hot", _set("apple bread cup egg mug plate potato tomato")),
    "cool": (
        "fridge",
        "cold",
        _set("apple bowl bread cup egg lettuce mug pan plate pot potato tomato winebottle"),
    ),
    "clean": (
        "sinkbasin",
        "clean",
        _set("""apple bowl butterknife cloth cup dishsponge egg fork kettle knife ladle lettuce mug pan plate pot potato
            soapbar spatula spoon tomato"""),
    ),
}
"""Verb to the kind of place it needs, the state it leaves, and the kinds of things that it can be done to."""

TREATMENT: Mapping[TaskType, str] = {
    "pick_clean_then_place": "clean",
    "pick_heat_then_place": "heat",
    "pick_cool_then_place": "cool",
}
"""Type of task to the verb that its thing needs before it is put down."""
