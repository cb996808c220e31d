"""What the generated store sells: kinds of products, with the words that their texts are made of.

No attribute of a kind says what another says, no option is named by two axes of a kind, and no text of a product holds
a word of its options: so what a product has, and what was chosen, decides the reward and nothing else does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Kind(NamedTuple):
    """A kind of product. ``path`` is its category, widest first; prices are in whole dollars."""

    name: str
    path: tuple[str, ...]
    nouns: tuple[str, ...]
    attributes: tuple[str, ...]
    options: Mapping[str, tuple[str, ...]]
    prices: tuple[int, int]


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(","))


COLORS = _words("black, white, navy, red, green, grey, brown, purple, orange, yellow, pink, teal, beige, burgundy")
FINISHES = _words("matte black, walnut, rustic oak, espresso, whitewash, cherry, graphite, honey")
CLOTHES = _words("small, medium, large, x-large, xx-large")
SHOES = _words("6, 7, 8, 9, 10, 11, 12")
BEDS = _words("twin, full, queen, king")
PACKS = _words("pack of 1, pack of 2, pack of 4, pack of 6, pack of 12")
VOLUMES = _words("8 ounce, 12 ounce, 16 ounce, 24 ounce, 32 ounce")
SCENTS = _words("lavender, eucalyptus, vanilla, sandalwood, peppermint, jasmine, citrus, rosewater")
FLAVORS = _words("chocolate, strawberry, salted caramel, maple, mango, cinnamon, hazelnut, original")

FABRIC = _words("machine washable, wrinkle free, moisture wicking, quick drying, stretch fabric, tagless collar")
SOLE = _words("arch support, non slip, memory foam, rubber outsole, steel toe, wide toe box, lace up")
SKIN = _words("cruelty free, paraben free, fragrance free, dermatologist tested, sensitive skin, long lasting")
SNACK = _words(
    "gluten free, non gmo, low sodium, high protein, certified organic, individually wrapped, no preservatives"
)
WOOD = _words("solid wood, easy assembly, anti tip, soft close, stain resistant, space saving")
POWER = _words("fast charging, noise cancelling, water resistant, plug and play, voice control, carrying case")
STEEL = _words("stainless steel, dishwasher safe, bpa free, leak proof, double wall, easy clean")
GARDEN = _words("weather resistant, uv protection, rust proof, heavy duty, drainage holes, fade resistant")

MEN, WOMEN = ("Clothing", "Men"), ("Clothing", "Women")
COLOR_SIZE = {"color": COLORS, "size": CLOTHES}

KINDS = (
    Kind("mens shirts", (*MEN, "Shirts"), _words("dress shirt, oxford shirt, polo shirt, flannel shirt"),
         (*FABRIC, "long sleeve", "slim fit", "button down", "chest pocket"), COLOR_SIZE, (14, 58)),
    Kind("mens trousers", (*MEN, "Trousers"), _words("chino trousers, cargo trousers, jogger trousers"),
         (*FABRIC, "elastic waist", "zipper pockets", "relaxed fit", "tapered leg"), COLOR_SIZE, (18, 74)),
    Kind("womens dresses", (*WOMEN, "Dresses"), _words("wrap dress, shift dress, maxi dress, tunic dress"),
         (*FABRIC, "short sleeve", "high waist", "side slit", "lined bodice"), COLOR_SIZE, (22, 96)),
    Kind("womens sweaters", (*WOMEN, "Sweaters"), _words("cardigan sweater, crewneck sweater, turtleneck sweater"),
         (*FABRIC, "cable knit", "loose fit", "ribbed cuffs", "merino wool"), COLOR_SIZE, (24, 110)),
    Kind("running shoes", ("Shoes", "Athletic", "Running"), _words("running shoes, trail shoes, training shoes"),
         (*SOLE, "breathable mesh", "reflective trim", "vegan friendly"), {"color": COLORS, "size": SHOES}, (38, 140)),
    Kind("boots", ("Shoes", "Outdoor", "Boots"), _words("hiking boots, work boots, winter boots"),
         (*SOLE, "insulated lining", "ankle padding", "oil tanned"), {"color": COLORS, "size": SHOES}, (52, 190)),
    Kind("backpacks", ("Luggage", "Bags", "Backpacks"), _words("laptop backpack, travel backpack, school backpack"),
         _words("water resistant, padded straps, usb port, hidden pocket, luggage sleeve, chest strap, light weight"),
         {"color": COLORS}, (19, 120)),
    Kind("bedding", ("Home", "Bedroom", "Bedding"), _words("sheet set, duvet cover, quilt set, comforter"),
         _words("machine washable, wrinkle free, deep pocket, hypoallergenic, breathable weave, corner ties"),
         {"color": COLORS, "size": BEDS}, (25, 130)),
    Kind("bookcases", ("Home", "Furniture", "Bookcases"), _words("bookcase, ladder shelf, corner shelf"),
         (*WOOD, "adjustable shelves", "metal frame", "cable opening"), {"finish": FINISHES}, (45, 260)),
    Kind("tables", ("Home", "Furniture", "Tables"), _words("coffee table, end table, console table"),
         (*WOOD, "lift top", "hidden storage", "tempered glass"), {"finish": FINISHES}, (40, 290)),
    Kind("rugs", ("Home", "Decor", "Rugs"), _words("area rug, runner rug, shag rug"),
         _words("machine washable, non slip, stain resistant, pet friendly, low pile, hand woven, reversible"),
         {"color": COLORS, "size": _words("2 x 3 feet, 3 x 5 feet, 5 x 8 feet, 8 x 10 feet")}, (21, 240)),
    Kind("curtains", ("Home", "Decor", "Curtains"), _words("blackout curtains, sheer curtains, linen curtains"),
         _words("machine washable, thermal insulated, noise reducing, rod pocket, energy saving, flame retardant"),
         {"color": COLORS, "size": _words("63 inch, 84 inch, 95 inch, 108 inch")}, (16, 88)),
    Kind("headphones", ("Electronics", "Audio", "Headphones"),
         _words("wireless headphones, studio headphones, earbuds"),
         (*POWER, "deep bass", "foldable design", "dual microphones"), {"color": COLORS}, (18, 210)),
    Kind("speakers", ("Electronics", "Audio", "Speakers"), _words("bluetooth speaker, bookshelf speaker, soundbar"),
         (*POWER, "stereo pairing", "shock proof", "wall mountable"), {"color": COLORS}, (22, 240)),
    Kind("chargers", ("Electronics", "Accessories", "Chargers"), _words("wall charger, power bank, charging station"),
         _words("fast charging, overheat protection, travel size, led indicator, foldable plug, dual port"),
         {"color": COLORS, "size": PACKS}, (9, 68)),
    Kind("water bottles", ("Kitchen", "Drinkware", "Bottles"), _words("water bottle, sports bottle, vacuum flask"),
         (*STEEL, "flip lid", "carry loop", "powder coated"), {"color": COLORS, "size": VOLUMES}, (9, 46)),
    Kind("cookware", ("Kitchen", "Cooking", "Cookware"), _words("frying pan, saute pan, stock pot, dutch oven"),
         (*STEEL, "induction ready", "riveted handle", "oven safe"), {"color": COLORS}, (18, 150)),
    Kind("lotions", ("Beauty", "Skin Care", "Lotions"), _words("body lotion, hand cream, body butter"),
         (*SKIN, "shea butter", "fast absorbing", "hyaluronic acid"), {"scent": SCENTS, "size": VOLUMES}, (7, 42)),
    Kind("shampoos", ("Beauty", "Hair Care", "Shampoos"), _words("shampoo, conditioner, scalp scrub"),
         (*SKIN, "sulfate free", "argan oil", "color safe"), {"scent": SCENTS, "size": VOLUMES}, (8, 48)),
    Kind("candles", ("Home", "Decor", "Candles"), _words("jar candle, pillar candle, travel candle"),
         _words("long lasting, lead free, soy wax, cotton wick, hand poured, eco friendly, reusable tin"),
         {"scent": SCENTS, "size": PACKS}, (8, 44)),
    Kind("snack bars", ("Grocery", "Snacks", "Bars"), _words("granola bars, protein bars, oat bars"),
         (*SNACK, "dairy free", "low sugar"), {"flavor": FLAVORS, "size": PACKS}, (6, 52)),
    Kind("coffee", ("Grocery", "Drinks", "Coffee"), _words("ground coffee, coffee beans, coffee pods"),
         _words("fair trade, certified organic, single origin, dark roast, low acid, shade grown, small batch"),
         {"flavor": FLAVORS, "size": PACKS}, (9, 64)),
    Kind("planters", ("Garden", "Outdoor", "Planters"), _words("flower pot, raised planter, hanging basket"),
         (*GARDEN, "self watering", "detachable tray"), {"color": COLORS, "size": PACKS}, (11, 95)),
    Kind("patio chairs", ("Garden", "Outdoor", "Chairs"), _words("folding chair, lounge chair, rocking chair"),
         (*GARDEN, "padded seat", "cup holder"), {"color": COLORS}, (29, 230)),
)  # fmt: skip

BRANDS = _words(
    "Arvella, Brackenby, Calderon, Dunmore, Everline Row, Fenwick, Galloway, Hartsome, Ironbark, Juniper Lane, "
    "Kestrel, Lowmoor, Marlowe, Northfell, Oakhurst, Penrose, Quillon, Ravensworth, Silverbrook, Thornbury, Umberly, "
    "Valemont, Westerly, Yarrowdale, Zephyrine, Ashcombe, Briarwood, Copperleaf, Drayton, Elmhurst"
)
MODELS = _words(
    "Alpine, Breeze, Cascade, Drift, Ember, Frontier, Glacier, Horizon, Island, Journey, Keystone, Lantern, Meridian, "
    "Nomad, Orchard, Prairie, Quarry, Ridge, Summit, Tundra, Upland, Voyage, Willow, Zenith, Beacon, Canyon, Delta"
)

SMALL_NOUNS = {
    "clothing": _words("shirt, hat, jacket"),
    "home": _words("lamp, chair, pillow"),
    "travel": _words("bag, umbrella, tent"),
}
SMALL_ATTRIBUTES = _words("soft, warm, light, strong, striped, foldable")
SMALL_COLORS = _words("red, blue, green, black, white, brown, pink, grey")
