"""An episode in a store: one goal, one visit, and the reward when something is bought."""

from __future__ import annotations

import re
from functools import cached_property
from random import Random

from environments.contract import Environment
from environments.dealing import Dealt
from environments.episode import MOST_CHARACTERS, TextEpisode, Took, action_of
from environments.webshop.goals import Plan, Shop, plan
from environments.webshop.pages import Wording
from environments.webshop.products import WORD
from environments.webshop.reward import Goal, Score, choice, score
from environments.webshop.visit import Page, Visit
from rl.records import ScenarioRef

ACTION = re.compile(r"^[ \t]*(search|click)[ \t]*\[(.*)\][ \t\r]*$", re.MULTILINE | re.IGNORECASE)
GUESSED_WORDS = 2
"""Words of the instruction that a guess searches for."""


class Shopping(TextEpisode):
    """What the agent buys decides the reward, and buying is the end.

    In a patient store whatever cannot be done is answered and uses up a turn; in another one it is the end too.
    """

    def __init__(
        self,
        environment: Environment,
        ref: ScenarioRef,
        dealt: Dealt[Goal],
        shop: Shop,
        wording: Wording,
        patient: bool = True,
    ) -> None:
        self._patient = patient
        self._goal = dealt.content
        self._shop = shop
        self._names = wording.buttons
        self._visit = Visit(shop, wording, self._goal.instruction)
        self._bought: Score | None = None
        super().__init__(environment, ref, dealt.digest, self._visit.read(), self._goal.target.kind)

    def _act(self, reply: str) -> Took:
        actions = ACTION.findall(action_of(reply))
        if len(actions) != 1:
            return self._refuse("Reply with one action, search[words] or click[button].")
        verb, text = actions[0]
        return self._search(text.strip()) if verb.lower() == "search" else self._click(text.strip())

    def _too_long(self) -> Took:
        return self._refuse(f"The reply is longer than {MOST_CHARACTERS} characters. Reply with one action.")

    def _search(self, words: str) -> Took:
        if self._visit.page is not Page.FRONT:
            return self._refuse("This page has no search bar.")
        if not WORD.search(words.lower()):
            return self._refuse("There are no words to search for.")
        self._visit.search(words)
        return Took(self._visit.read())

    def _click(self, text: str) -> Took:
        button = next((name for name in self._visit.buttons() if name.lower() == text.lower()), None)
        if button is None:
            return self._refuse("This page has no such button.")
        self._visit.click(button)
        if self._visit.page is not Page.BOUGHT or self._visit.product is None:
            return Took(self._visit.read())
        self._bought = score(self._visit.product, self._visit.chosen, self._goal)
        return Took("", self._bought.total, over=True)

    @property
    def solved(self) -> bool:
        """Whether something was bought that is of the right kind and has all that was asked for."""
        bought = self._bought
        return bought is not None and bought.type == 1 and bought.matched == bought.wanted

    def _write(self, verb: str, text: str) -> str:
        """The reply that searches for the text, or clicks it."""
        return f"{verb}[{text}]"

    def _refuse(self, remark: str) -> Took:
        return Took(f"{remark}\n{self._visit.read()}", over=not self._patient)

    @cached_property
    def _plan(self) -> Plan | None:
        return plan(self._shop, self._goal)

    def oracle(self) -> str:
        """Search for the goal's words, and buy the first product that earns the whole reward."""
        visit = self._visit
        if visit.page is Page.FRONT:
            return self._write("search", self._goal.words)
        return self._write("click", self._open_or_turn() if visit.page is Page.RESULTS else self._choose_or_buy())

    def _open_or_turn(self) -> str:
        fitting = [product.id for product in self._visit.shown() if choice(product, self._goal) is not None]
        if fitting:
            return fitting[0]
        if self._plan is None or self._visit.words != self._goal.words:
            return self._names.search
        return self._names.next if self._visit.number < self._plan.page else self._names.previous

    def _choose_or_buy(self) -> str:
        visit = self._visit
        options = choice(visit.product, self._goal) if visit.product is not None else None
        if options is None or visit.page is Page.DETAIL:
            return self._names.previous
        missing = [value for axis, value in options.items() if visit.chosen.get(axis) != value]
        return missing[0] if missing else self._names.buy

    def guess(self, chance: Random) -> str:
        """A search for two words of the instruction, or any button of the page."""
        if self._visit.page is Page.FRONT:
            words = WORD.findall(self._goal.instruction.lower())
            return self._write("search", " ".join(chance.sample(words, GUESSED_WORDS)))
        return self._write("click", chance.choice(self._visit.buttons()))
