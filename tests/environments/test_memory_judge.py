from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from environments.memory.phrases import Terms, normal
from environments.memory.replies import Block, Malformed, read
from environments.memory.tables import BY_KEY
from environments.memory.task import encoded, same, terms, whose
from environments.memory.vault import Entity, Route, Vault

ADA = Entity("Ada Brandt", "user", (("pet", "gecko"),), (("cousin", "Ivan Marek"),))
IVAN = Entity("Ivan Marek", "person", (("phone_number", "555-1890"), ("pet", "canary")), (("tutor", "Olga Quist"),))
OLGA = Entity("Olga Quist", "person", (("phone_number", "555-0007"), ("birth_date", "1971-03-11")))
MILL = Entity("Foxglove Dairy", "organisation", (("founding_year", "1890"),))
VAULT = Vault((ADA, IVAN, OLGA, MILL))
COUSIN = Route(("cousin",), ("Ada Brandt", "Ivan Marek"))

PHONE = terms(VAULT, COUSIN, ["555-1890"], ["phone_number"])
PART = terms(VAULT, COUSIN, ["canary"], ["pet", "phone_number"])
REFUSAL = terms(VAULT, COUSIN, ["phone number"], ["phone_number"], refuses=True)
MISSING = terms(VAULT, COUSIN, ["Ivan Marek", "shoe size"], ["shoe_size"], asks=True)
BOTH = terms(VAULT, COUSIN, ["555-1890", "555-4444"], ["phone_number"], asks=True)
NAME = terms(VAULT, COUSIN, ["Olga Quist"])


def test_plain_text() -> None:
    assert normal("  Your PHONE-number:\n\uff155\uff15-0142!") == " your phone number 555 0142 "
    assert normal("") == "  "
    assert whose(["cousin", "best_friend"]) == "my cousin's best friend's"


@pytest.mark.parametrize(
    ("wanted", "reply"),
    [
        (PHONE, "555-1890"),
        (PHONE, "Ada, the phone number of your cousin Ivan Marek is 555 1890."),
        (PART, "The pet is a Canary; I may not tell the phone number."),
        (REFUSAL, "I can't tell your cousin's phone number."),
        (REFUSAL, "I am unable to share the phone_number."),
        (MISSING, "I have no shoe size for Ivan Marek. What is it?"),
        (BOTH, "Is it 555-1890 or 555-4444?"),
        (NAME, "Ivan Marek's tutor is OLGA QUIST"),
    ],
)
def test_right_replies(wanted: Terms, reply: str) -> None:
    assert wanted.hold(reply)


@pytest.mark.parametrize(
    ("wanted", "reply"),
    [
        (PHONE, ""),
        (PHONE, "What is my cousin's phone number?"),
        (PHONE, "555-18901"),
        (PHONE, "555-1890 or 555-0007"),  # of somebody else
        (PHONE, "555-1890 or 555-9999"),  # of nobody
        (PHONE, "555-1890, and the pet is a canary"),  # not asked for
        (PHONE, "555-1890, founded 1890"),  # a part of the number, but also outside of it
        (PHONE, "555-1890, Olga Quist"),  # not on the way
        (PHONE, "\n".join(VAULT.tree().values())),
        (PHONE, VAULT.tree()["entities/ivan_marek.md"]),
        (PHONE, ", ".join(f"555-{number:04}" for number in range(1500, 2000))),
        (PART, "canary, 555-1890"),
        (PART, "canary or gecko"),
        (PART, "I may not tell it."),
        (REFUSAL, "555-1890"),
        (REFUSAL, "The phone number is 555-1890, which I may not tell."),
        (REFUSAL, "What is my cousin's phone number?"),
        (REFUSAL, "I may not tell it."),
        (MISSING, "I have no shoe size for Ivan Marek."),  # no question
        (MISSING, "What is my cousin's shoe size?"),  # whose file was it?
        (MISSING, "Ivan Marek's shoe size is 42, right?"),  # invented
        (MISSING, "What is missing about Ivan Marek?"),
        (BOTH, "It is 555-1890. Anything else?"),
        (BOTH, "It is 555-1890 or 555-4444."),
        (BOTH, "Is it 555-1890, 555-4444 or 555-5555?"),
        (NAME, "Olga"),
        (NAME, "Olga Quist or Foxglove Dairy"),
    ],
)
def test_wrong_replies(wanted: Terms, reply: str) -> None:
    assert not wanted.hold(reply)


@given(reply=st.text())
def test_terms_take_any_text(reply: str) -> None:
    assert not PHONE.hold(reply)
    assert Terms().hold(reply)


def test_values_are_those_of_their_attribute() -> None:
    assert BY_KEY["phone_number"].pattern.findall(normal("555-0142 555-01 5550142 (555) 9999")) == [
        "555 0142",
        "555 9999",
    ]
    assert BY_KEY["closing_day"].pattern.findall(normal("Mondays, Sunday")) == ["sunday"]


TREE = {"user.md": "# A\n- kind: user\n\n## Facts\n- a: 1\n- b: 2\n\n## Relations\n- c: [[entities/x.md]]\n"}


@pytest.mark.parametrize(
    ("text", "equal"),
    [
        (TREE["user.md"], True),
        ("# A\n- kind: user\n## Relations\n- c: [[entities/x.md]]  \n\n## Facts\n- b: 2\n\n- a: 1", True),
        (TREE["user.md"] + "\n## Notes\n", True),
        (TREE["user.md"].replace("\n", "\r\n"), True),
        (TREE["user.md"] + "- d: 3\n", False),
        (TREE["user.md"].replace("- b: 2\n", ""), False),
        (TREE["user.md"].replace("- b: 2", "- b: 2\n- b: 2"), False),
        (TREE["user.md"].replace("- b: 2", "  - b: 2"), False),
        (TREE["user.md"].replace("- b: 2\n", "") + "- b: 2\n", False),  # in another section
        (TREE["user.md"].replace("# A", "# a"), False),
        ("", False),
    ],
)
def test_files_are_compared_by_the_lines_of_sections(text: str, equal: bool) -> None:
    assert same(encoded({"user.md": text}), TREE) is equal


def test_trees_have_the_same_paths() -> None:
    files = encoded(TREE)
    assert same(files, TREE)
    assert not same({**files, b"new/": b""}, TREE)
    assert not same({**files, b"notes.md": b""}, TREE)
    assert not same({path: text for path, text in files.items() if path != b"entities/"}, TREE)
    assert not same({**files, b"user.md": b"\xff"}, TREE)


@pytest.mark.parametrize(
    ("reply", "block"),
    [
        ("<think>I read.</think>\n<python>\nx = 1\ny = 2\n</python>", Block("python", "x = 1\ny = 2")),
        ("<python></python><reply> Ulm </reply>\nand more", Block("reply", " Ulm ")),
        ("<PYTHON>x</Python>", Block("python", "x")),
        ("<python>\n```python\nx = 1\n```\n</python>", Block("python", "x = 1")),
        ("<python>x = '<reply>no</reply>'</python>", Block("python", "x = '<reply>no</reply>'")),
        ("<think><reply>no</reply></think><reply>yes</reply>", Block("reply", "yes")),
        ("Thought: so\nAction: <reply>yes</reply>", Block("reply", "yes")),
    ],
)
def test_blocks(reply: str, block: Block) -> None:
    assert read(reply) == block


@pytest.mark.parametrize(
    ("reply", "remark"),
    [
        ("", "There is no <python> and no <reply> block."),
        ("<reply> </reply>", "There is no"),
        ("<reply>open", "There is no"),
        ("<think><reply>only thought</reply>", "There is no"),
        ('{"reply": "Ulm"}', "There is no"),
        ("<python>x = 1</python><reply>done</reply>", "not both"),
        ("<python>x = 1</python><python>y = 2</python>", "one block"),
        ("<reply>a</reply><reply>b</reply>", "one block"),
    ],
)
def test_replies_without_one_block(reply: str, remark: str) -> None:
    with pytest.raises(Malformed, match=remark):
        read(reply)
