"""The full store visited with function calls: the goals of ``webshop``, its pages and its reward."""

from __future__ import annotations

from environments.calling import Miscalled, function
from environments.calling import read as read_call
from environments.calling import write as write_call
from environments.contract import Episode
from environments.episode import MOST_CHARACTERS, Took, check_owner
from environments.webshop.environment import WebShop
from environments.webshop.shopping import Shopping
from rl.records import ScenarioRef

_WORDS = {"type": "string", "description": "What to look for."}
_BUTTON = {"type": "string", "description": "A product's code, the value of an option, or the name of a button."}

TOOLS = (
    function("search", "Search the store, on the page with the search bar.", words=_WORDS),
    function("click", "Click what the page shows.", button=_BUTTON),
)
ARGUMENT = {"search": "words", "click": "button"}


class WebShopTools(WebShop):
    """The full store, an action a call."""

    name = "webshop-tools"
    profile = "tools"
    system = (
        "You shop in a web store for what an instruction asks. Call one function a turn: search on the page with the "
        "search bar, and click on others, with a product's code, the value of an option, or Back to Search, Next >, "
        "< Prev, Description, Features, Attributes or Buy Now, where the page has it. Choose the options that the "
        "instruction names before you click Buy Now, which ends the visit."
    )
    tools = TOOLS

    def open(self, ref: ScenarioRef) -> Episode:
        """A fresh episode of the scenario, which is the one of ``webshop`` with the same split and seed.

        Raises:
            InvalidInput: the scenario belongs to another environment.
        """
        check_owner(self, ref)
        dealt = self.dealt(ref.model_copy(update={"environment": WebShop.name}))
        return ShoppingByCalls(self, ref, dealt, self.store(), self.wording)


class ShoppingByCalls(Shopping):
    """A visit. A reply that calls no function as it should be called uses up a turn."""

    def _act(self, reply: str) -> Took:
        try:
            name, arguments = read_call(reply, TOOLS)
        except Miscalled as remark:
            return self._refuse(str(remark))
        text = arguments[ARGUMENT[name]].strip()
        return self._search(text) if name == "search" else self._click(text)

    def _too_long(self) -> Took:
        return self._refuse(f"The reply is longer than {MOST_CHARACTERS} characters. Call one function.")

    def _write(self, verb: str, text: str) -> str:
        return write_call(verb, {ARGUMENT[verb]: text})
