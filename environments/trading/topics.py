"""What the markets ask, which assets there are, and how news says yes or no, up or down."""

from __future__ import annotations

from typing import NamedTuple

PHRASES = 3
"""Ways to say the same piece of news."""


class Topic(NamedTuple):
    """A question, and news of it: ``PHRASES`` that speak for yes, and as many that speak for no."""

    question: str
    yes: tuple[str, str, str]
    no: tuple[str, str, str]


TOPICS = (
    Topic(
        "Will the city approve the tram line?",
        (
            "most councillors back the tram",
            "the tram's budget has been found",
            "the mayor drops her doubts on the tram",
        ),
        ("most councillors reject the tram", "the tram's budget is gone", "the mayor turns against the tram"),
    ),
    Topic(
        "Will the rocket launch on schedule?",
        ("the rocket passed its last test", "skies clear over the launch pad", "fuelling of the rocket has begun"),
        ("a leak was found in the rocket", "storms close in on the launch pad", "the crew was sent home from the pad"),
    ),
    Topic(
        "Will the harbour strike end this week?",
        ("dockers and owners shake hands", "cranes in the harbour move again", "the union calls its members back"),
        ("talks in the harbour broke down", "more dockers walk out", "the union pays out strike money for a month"),
    ),
    Topic(
        "Will the central bank cut its rate?",
        ("governors of the bank favour a cut", "inflation falls below the bank's goal", "the bank warns of a slump"),
        ("governors of the bank oppose a cut", "inflation jumps again", "the bank sees no need to act"),
    ),
    Topic(
        "Will the film win the grand prize?",
        ("the jury gave the film a long applause", "critics agree on the film", "the director was asked to stay on"),
        ("half of the jury left the film early", "critics pan the film", "the director has flown home"),
    ),
    Topic(
        "Will the dam be finished this year?",
        ("the dam's last gate is in place", "the builders work ahead of plan", "water is let in behind the dam"),
        ("cracks were found in the dam", "the builders ran out of steel", "a court stops work on the dam"),
    ),
    Topic(
        "Will the champion keep her title?",
        ("the champion trains in top form", "her rival is injured", "the champion won all her sparring"),
        ("the champion limps", "her rival breaks a record", "the champion missed a week of training"),
    ),
    Topic(
        "Will the two airlines merge?",
        ("both boards signed the merger", "regulators clear the merger", "the airlines share one timetable already"),
        ("one board voted the merger down", "regulators object to the merger", "the airlines sue each other"),
    ),
    Topic(
        "Will the vaccine be licensed?",
        ("the trial of the vaccine met its goals", "inspectors praise the plant", "hospitals order the vaccine"),
        ("the trial of the vaccine fell short", "inspectors shut the plant", "hospitals cancel their orders"),
    ),
    Topic(
        "Will the treaty be signed?",
        ("ministers travel to sign the treaty", "the last clause is settled", "both capitals raise the flags"),
        ("a minister cancels his trip", "the last clause is in dispute again", "an ambassador is called back"),
    ),
    Topic(
        "Will the phone go on sale before spring?",
        (
            "crates of the phone reach the shops",
            "the phone passed the radio test",
            "advertisements for the phone are up",
        ),
        ("the phone's screens fail", "the phone failed the radio test", "advertisements for the phone are cancelled"),
    ),
    Topic(
        "Will the bridge reopen in time?",
        ("the bridge carried its test load", "scaffolds come down from the bridge", "buses run over the bridge again"),
        ("the bridge failed its test load", "more scaffolds go up at the bridge", "detours are set up for months"),
    ),
)

ASSETS = ("OIL", "GOLD", "WHEAT", "COPPER", "CACAO", "STEEL", "SUGAR", "TIN")

UP = ("buyers queue for {}", "stocks of {} run low", "a supplier of {} shuts down")
DOWN = ("sellers queue with {}", "warehouses are full of {}", "demand for {} dries up")
"""News of assets."""
