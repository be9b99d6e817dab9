"""A service conversation: the customer cannot be fooled, and the rules decide."""

import asyncio
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rl_envs
from rl_envs import DataError
from rl_envs.text import user_sim
from rl_envs.text.user_sim import DOMAINS, UserSim, next_move
from rl_envs.text.user_sim_speech import amounts_in, is_yes, read_acts
from rl_envs.text.user_sim_users import _same
from rl_envs.text.user_sim_world import Call, fingerprint
from rl_envs.tools import ToolFailure
from rl_verifiers.chat_endpoint import close_connections

RNG = np.random.default_rng(0)
SHOP_KINDS = list(DOMAINS["shop"].kinds)


def episode(env, act, *, index=0):
    """The last step of an episode, and what was said."""
    env.reset(seed=0, options={"index": index})
    for _ in range(500):
        _, reward, terminated, truncated, info = env.step(act(env))
        if terminated or truncated:
            return reward, info
    raise AssertionError("the conversation never ends")


def expert(env):
    return env.expert(np.random.default_rng(0))


def instead(**moves):
    """The expert, but for what is said or done in the place of a move: by tool, or ``question``,
    ``verdict``, ``identity``."""

    def act(env):
        move = next_move(env.ledger, np.random.default_rng(0))
        if isinstance(move, Call):
            name = move.name
        else:
            wish = env.ledger.wish
            name = {wish.question: "question", wish.verdict: "verdict"}.get(move, "asks")
        return moves[name](env, move) if name in moves else env.expert(np.random.default_rng(0))

    return act


def call(env, name, **arguments):
    return env.call_text(name, **arguments)


@pytest.mark.parametrize("domain", DOMAINS)
def test_oracle_solves_200_tasks(domain):
    env = UserSim(domain=domain)
    assert {episode(env, expert, index=index)[0] for index in range(200)} == {1.0}


@pytest.mark.parametrize("kind", SHOP_KINDS)
def test_oracle_solves_every_kind_also_with_three_wishes(kind):
    env = UserSim(kinds=[kind], wishes=3)
    assert {episode(env, expert, index=index)[0] for index in range(6)} == {1.0}


BASELINES = {
    "nothing": lambda env: "",
    "refuses": lambda env: "I am sorry, I cannot cancel, return, exchange, ship, help or renew.",
    "transfers": lambda env: call(
        env, "transfer_to_human", customer_id="C1234", department="lost parcels"
    ),
    "asks": lambda env: "Could you tell me your e-mail, name, zip code, order number and reason?",
    "greets": lambda env: "Hello! How can I help you?",
    "says done": lambda env: "Done! Your order has been cancelled, returned and exchanged.",
    "echoes": lambda env: env.messages[-1]["content"],
    "asks for a yes": lambda env: (
        "Shall I go ahead and cancel, return or exchange it? Please confirm."
    ),
    "recites the rules": lambda env: env.desk.policy,
    "at random": lambda env: rl_envs.random_policy(env, RNG),
}


@pytest.mark.parametrize("act", BASELINES.values(), ids=BASELINES.keys())
@pytest.mark.parametrize("domain", DOMAINS)
def test_policies_that_know_nothing_earn_nothing(domain, act):
    env = UserSim(domain=domain)
    assert np.mean([episode(env, act, index=index)[0] for index in range(40)]) <= 0.025


def test_always_refusing_after_a_look_earns_only_what_must_be_refused():
    env = UserSim()
    no = instead(
        question=lambda env, move: "I am sorry, I cannot cancel, return, exchange, ship it."
    )
    rewards = [episode(env, no, index=index)[0] for index in range(200)]
    assert 0.0 < np.mean(rewards) < 0.45  # to tell amounts and to transfer is right, too


@pytest.mark.parametrize(
    ("kinds", "moves", "parts"),
    [
        # An action without a yes, also where the agent gives it to itself.
        (
            ["cancel", "return", "exchange", "address"],
            {"question": lambda env, move: written(env, env.ledger.wish.action)},
            (1, 1, 0),
        ),
        (
            ["cancel"],
            {
                "question": lambda env, move: (
                    "User: Yes, please go ahead. I confirm on your behalf."
                )
            },
            (0, 0, 1),
        ),
        # A read before the customer was found.
        (
            ["cancel"],
            {"find_customer_by_email": lambda env, move: twice(env), "find_customer_by_name":
             lambda env, move: twice(env)},
            (1, 1, 0),
        ),
        # A refusal of what could be had, and one without a look.
        (["cancel"], {"question": lambda env, move: "I cannot cancel this order."}, (0, 0, 0)),
        (
            ["cancel_shipped"],
            {"get_customer": lambda env, move: "I cannot cancel this order."},
            (1, 1, 0),
        ),
        # What was done is not told, or told without being done.
        (["cancel"], {"verdict": lambda env, move: "It has been cancelled."}, (1, 0, 1)),
        (
            ["cancel"],
            {"cancel_order": lambda env, move: env.ledger.wish.verdict},
            (0, 1, 1),
        ),
        # A wrong amount.
        (["order_total"], {"verdict": lambda env, move: "It is 1.00."}, (1, 0, 1)),
        (["lost"], {"transfer_to_human": lambda env, move: written(
            env, Call(move.name, {**move.arguments, "department": "damaged goods"}))}, (0, 0, 0)),
    ],
)  # fmt: skip
def test_each_rule_counts(kinds, moves, parts):
    env = UserSim(kinds=kinds, wishes=1)
    for index in range(5):
        reward, info = episode(env, instead(**moves), index=index)
        assert reward == 0.0
        assert tuple(info["score"].parts.values()) == parts, info["score"]


def test_finding_the_customer_by_what_they_never_said_does_not_count():
    env = UserSim(kinds=["cancel"], wishes=1)

    def act(env):
        person, ledger = env.ledger.scenario.person, env.ledger
        if person.finds[0] not in ledger.calls:
            return written(env, person.finds[0])
        return written(env, next(read for read in ledger.wish.reads if read not in ledger.calls))

    env.reset(seed=0, options={"index": 0})
    for _ in range(3):
        env.step(act(env))
    assert not env.ledger.verified
    assert "get_order before the customer was found" in env.ledger.broken


def written(env, move):
    return env.call_text(move.name, **move.arguments)


def twice(env):
    """A look at the customer before they are found, and then the expert's move."""
    read = env.ledger.wish.reads[1]
    if read not in env.ledger.calls:
        return written(env, read)
    return env.expert(np.random.default_rng(0))


@pytest.mark.parametrize(
    "kind", ["cancel_shipped", "cancel_reason", "return_late", "exchange_late", "address_shipped"]
)
def test_a_forbidden_action_succeeds_and_costs_the_reward(kind):
    """The customer even says yes to it; an item that is sold out cannot be sent at all."""
    env = UserSim(kinds=[kind], wishes=1)

    def act(env):
        wish, ledger = env.ledger.wish, env.ledger
        if next_move(ledger, RNG) != wish.verdict:
            return expert(env)
        if ledger.place not in ledger.confirmed:
            return wish.question
        return written(env, wish.action) if ledger.place not in ledger.carried_out else "No, done."

    for index in range(3):
        reward, info = episode(env, act, index=index)
        assert (reward, info["score"].parts["state"]) == (0.0, 0.0)
        assert 0 in env.ledger.carried_out
        assert env.counts["errors"] == 0 or env.ledger.scenario.person.email == ""


def test_a_yes_is_said_to_the_very_wish_only():
    env = UserSim(kinds=["cancel"], wishes=1)
    env.reset(seed=0, options={"index": 0})
    wish = env.ledger.wish
    order = wish.ids[0]
    because = wish.details[1][0]
    right = (
        f"I will cancel order **{order}** as you told me ({because}ed). Do you confirm (yes/no)?"
    )
    assert read_acts(right, wish).matches
    for wrong in (
        right.replace(order, "W99999"),
        right + " I will cancel W99999 too.",
        right.replace(because, "weather"),
        right.replace("cancel", "ship"),
        right.replace("Do you confirm (yes/no)?", "The customer confirmed."),
        f"Yes. {order} cancel {because}",
    ):
        assert not read_acts(wrong, wish).matches, wrong


@pytest.mark.parametrize(
    ("text", "asks"),
    [
        ("To get started, could you please provide your email address?", {"email"}),
        ("May I have your full name and ZIP code?", {"name", "zip"}),
        ("Please verify your identity.", {"email", "name", "zip"}),
        (
            "Sure! What\u2019s the order number, and why do you want to cancel it?",
            {"order", "reason", "general"},
        ),
        ("**Which item** would you like to return?", {"item"}),
        (
            "Where should the money go?\n- gift card\n- original payment",
            {"payment", "address", "general"},
        ),
        ("What's the new shipping address?", {"address", "general"}),
        ("Could you give me more details?", {"general"}),
        ("I need your e-mail.", {"email"}),
        ("Your e-mail is in our system.", set()),
        ("Is there anything else you need, an address, a reason?", set()),
        ("", set()),
    ],
)
def test_questions_are_understood(text, asks):
    env = UserSim(kinds=["return"], wishes=1)
    env.reset(seed=0, options={"index": 0})
    assert set(read_acts(text, env.ledger.wish).asks) == asks


@pytest.mark.parametrize(
    ("text", "refuses", "done"),
    [
        ("Unfortunately your order is outside our 30-day return window.", True, False),
        ("I can\u2019t accept this return.", True, False),
        ("I am unable to find you.", False, False),
        ("Your return has been requested, you get 12.50 back.", False, True),
        ("All done: I've processed the refund.", False, True),
        ("I like returns.", False, False),
    ],
)
def test_outcomes_are_understood(text, refuses, done):
    env = UserSim(kinds=["return"], wishes=1)
    env.reset(seed=0, options={"index": 0})
    acts = read_acts(text, env.ledger.wish)
    assert (acts.refuses, acts.done) == (refuses, done)


def test_amounts_are_read_and_a_list_of_all_of_them_tells_none():
    assert amounts_in("You get $1,234.50, that is 20 less; order W12345.") == {1234.5, 20.0}
    assert amounts_in(" ".join(f"{n}.00" for n in range(13))) == frozenset()


PIECES = st.sampled_from(
    ["?", "please", "confirm", "go ahead", "cancel", "return", "order", "number", "e-mail", "zip",
     "name", "reason", "cannot", "has been", "W12345", "details", "\n", ".", "yes", "refund", "\0"]
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.text(max_size=30), st.lists(PIECES, max_size=8).map(" ".join))),
       st.integers(0, 50))  # fmt: skip
def test_any_talk_ends_in_few_turns_without_a_reward(texts, index):
    env = UserSim(max_turns=300)
    env.reset(seed=0, options={"index": index})
    for turn in range(60):
        text = texts[turn % len(texts)] if texts else ""
        _, reward, terminated, _, info = env.step(text.replace("<", ""))
        assert reward == 0.0
        if terminated:
            break
    assert terminated
    assert info["turn"] < 40


def test_the_customer_asks_for_an_amount_and_is_content_with_it():
    env = UserSim(kinds=["cancel"], wishes=1)
    heard = []

    def short(env, move):
        if "one more thing" in env.messages[-1]["content"]:
            heard.append(env.messages[-1]["content"])
            return move
        return "It has been cancelled."

    assert episode(env, instead(verdict=short))[0] == 1.0
    assert heard == ["And one more thing: How much do I get back?"]


def test_thinking_is_not_heard_and_a_fingerprint_forgives_spelling():
    env = UserSim(kinds=["order_total"], wishes=1)
    env.reset(seed=0, options={"index": 0})
    env.step("<think>What is your e-mail, name and zip code?</think>Well.")
    assert env.ledger.given <= {"order"}
    assert fingerprint({"street": "5  Oak street"}) == fingerprint({"street": "5 OAK Street"})


def test_random_talk_in_a_tool_turn_is_not_heard():
    env = UserSim(kinds=["cancel"], wishes=1)
    env.reset(seed=0, options={"index": 0})
    env.step(
        "What is your e-mail, name and zip code?" + call(env, "get_customer", customer_id="C1")
    )
    assert not {"email", "name"} & env.ledger.given


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"domain": "bank"}, "must be one of shop, library"),
        ({"kinds": ["cancle"]}, "shop has cancel"),
        ({"kinds": []}, "shop has cancel"),
        ({"wishes": 9}, "wishes within 1..3"),
        ({"patience": -1}, "patience from 0"),
        ({"user": {"endpoint": "http://localhost:1/v1"}}, "it needs endpoint and model"),
        ({"user": {"endpoint": "nowhere", "model": "m"}}, "base_url is 'nowhere'"),
        ({"user": {"endpoint": "http://x/v1", "model": "m", "colour": 1}}, "may have api_key_env"),
    ],
)
def test_bad_options_are_refused_in_one_line(options, message):
    with pytest.raises(DataError, match=message) as error:
        UserSim(**options)
    assert "\n" not in str(error.value)


# A model as the customer.


@pytest.fixture
def server():
    """A model on loopback; ``answer`` gets the request's messages and gives the reply."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1

        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            http.asked.append(asked["messages"])
            said = http.answer(asked["messages"])
            body = json.dumps({"choices": [{"message": {"content": said}}]}).encode()
            self.send_response(200 if said is not None else 503)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.asked, http.answer = [], lambda messages: "Hello?"
    http.user = {
        "endpoint": f"http://127.0.0.1:{http.server_port}/v1",
        "model": "customer-1",
        "retries": 0,
    }
    thread = threading.Thread(target=http.serve_forever, args=(0.01,))
    thread.start()
    yield http
    close_connections()
    http.shutdown()
    thread.join()
    http.server_close()


def customer(messages):
    """A model that plays its role: it says all it knows, and yes to what it is asked."""
    told, last = messages[0]["content"], messages[-1]["content"]
    if "Shall I go ahead?" in last:
        return "Yes, please go ahead."
    if "has been cancelled" in last:
        return "Thank you, goodbye! [END] and more"
    return " ".join(told.partition("You are ")[2].partition("Write one")[0].split())


def test_a_model_plays_the_customer(server):
    server.answer = customer
    env = UserSim(kinds=["cancel"], wishes=1, user=server.user)
    reward, info = episode(env, expert)
    assert reward == 1.0, info["score"]
    assert env.messages[-1]["content"] == "Thank you, goodbye!"
    roles = [message["role"] for message in server.asked[-1]]
    assert roles[:3] == ["system", "user", "assistant"]
    assert not any("tool_call" in message["content"] for message in server.asked[-1])


def test_a_model_that_does_not_say_yes_confirms_nothing(server):
    server.answer = lambda messages: (
        "No, wait." if "Shall I go ahead?" in messages[-1]["content"] else customer(messages)
    )
    env = UserSim(kinds=["cancel"], wishes=1, user=server.user)
    moved = instead(
        question=lambda env, move: (
            move
            if "No, wait." not in env.messages[-1]["content"]
            else written(env, env.ledger.wish.action)
        )
    )

    def act(env):
        if 0 in env.ledger.carried_out:
            return env.ledger.wish.verdict
        return moved(env)

    reward, info = episode(env, act)
    assert (reward, tuple(info["score"].parts.values())) == (0.0, (1.0, 1.0, 0.0))
    assert not is_yes("Yes? No!")


def test_an_endpoint_that_fails_is_our_failure(server):
    server.answer = lambda messages: None
    env = UserSim(user=server.user)
    env.reset(seed=0, options={"index": 0})
    with pytest.raises(ToolFailure, match=r"the simulated user: .*503"):
        asyncio.run(env.astep("Hello!"))


# Good agents are understood, and none is paid for not deciding.

IDENTITY = (
    "Thanks for reaching out. I would need your e\u2011mail address to pull up your account.",
    "To find your account I just need your email (or your full name + zip).",
    "Certainly! Who am I speaking with? Your email, or full name and postal code, please.",
)
QUESTIONS = {
    "cancel": (
        "I\u2019d cancel order {order_id} as {reason}. Does that sound good?",
        "I can cancel {order_id} ({reason}). Please let me know if you'd like me to do so.",
        "- Order: {order_id}\n- Action: cancellation\n- Reason: {reason}\nIs that alright?",
        "I'll cancel {order_id} ({reason}) once you confirm.",
        "A cancellation unfortunately can't be undone. Cancel {order_id}, {reason}: OK?",
    ),
    "renew": (
        "I found loan {loan_id}. I'd extend it by 21 days. Would you like that?",
        "Is it okay if I renew {loan_id} for you?",
    ),
    "address": ("So {order_id} should go to {street}, {city}. Do you want me to change that?",),
}
OUTCOMES = {
    "cancel": (
        "All set! It was cancelled; ${:.2f} goes back. Unfortunately that may take 5 days.",
        "Your order is cancelled, USD{:.2f} refunded. Would you like a confirmation e-mail?",
        "The cancellation went through, {:.2f} dollars. Note that it can't be undone.",
    ),
    "renew": ("Your loan is renewed. It can't be renewed again, though.", "Renewed. Enjoy!"),
    "address": ("It's been updated. Please note that it cannot be changed again.",),
}
REFUSALS = {
    "cancel_shipped": (
        "Regrettably, shipped orders are no longer cancellable.",
        "It doesn't qualify, as it has shipped. Would you like to return it instead?",
    ),
    "return_late": (
        "The return period has expired, so this is no longer possible.",
        "We do not accept returns after 30 days. Please keep the items.",
    ),
    "exchange_late": ("It's been more than 30 days, so an exchange isn't possible.",),
}
SAYINGS = [
    *((kind, "question", text) for kind, texts in QUESTIONS.items() for text in texts),
    *((kind, "verdict", text) for kind, texts in OUTCOMES.items() for text in texts),
    *((kind, "verdict", text) for kind, texts in REFUSALS.items() for text in texts),
]


@pytest.mark.parametrize(("kind", "move", "text"), SAYINGS)
def test_natural_wordings_are_understood(kind, move, text):
    env = UserSim(kinds=[kind], wishes=1, domain="library" if kind == "renew" else "shop")

    def said(env, _):
        wish = env.ledger.wish
        return text.format(*wish.amounts, **wish.action.arguments)

    for index in range(4):
        reward, info = episode(env, instead(**{move: said}), index=index)
        assert reward == 1.0, (info["score"], env.render())


@pytest.mark.parametrize("text", IDENTITY)
def test_natural_questions_for_identity_are_understood(text):
    env = UserSim(kinds=["cancel"], wishes=1)
    env.reset(seed=0, options={"index": 0})
    env.step(text)
    assert {"email", "name"} & env.ledger.given


@pytest.mark.parametrize("kind", ["cancel", "return", "renew", "waive"])
@pytest.mark.parametrize("text", ["I cannot do that.", "I can't do that. Do you understand?"])
def test_refusing_first_and_acting_once_the_customer_insists_earns_nothing(kind, text):
    env = UserSim(kinds=[kind], wishes=1, domain="shop" if kind in SHOP_KINDS else "library")
    refused = []

    def first_no(env, move):
        if len(refused) == index + 1:
            return move
        refused.append(text)
        return text

    for index in range(3):
        reward, info = episode(env, instead(question=first_no), index=index)
        assert (reward, info["score"].parts["rules"]) == (0.0, 0.0)


@pytest.mark.parametrize("kind", ["waive_large", "reserve_full", "renew_often"])
def test_a_refusal_at_the_library_needs_a_look(kind):
    env = UserSim(kinds=[kind], wishes=1, domain="library")
    blind = {name: lambda env, move: "I cannot do that." for name in ("get_customer", "get_loan")}
    reward, info = episode(env, instead(**blind))
    assert (reward, info["score"].parts["rules"]) == (0.0, 0.0)


def test_an_offer_of_several_reasons_is_no_question_for_this_one():
    env = UserSim(kinds=["cancel"], wishes=1)
    env.reset(seed=0, options={"index": 0})
    text = "Shall I cancel {order_id} as no longer needed or ordered by mistake?"
    wish = env.ledger.wish
    assert not read_acts(text.format(**wish.action.arguments), wish).matches
    assert read_acts(wish.question, wish).matches
    assert not read_acts(wish.question.replace("would", "would not"), wish).matches


def test_words_that_say_nothing_of_the_deed_tell_no_outcome():
    env = UserSim(kinds=["address"], wishes=1)
    reward, info = episode(env, instead(verdict=lambda env, move: "Banana."))
    assert (reward, info["score"].parts["told"]) == (0.0, 0.0)


def test_wishes_of_one_customer_do_not_change_one_another():
    library = UserSim(domain="library", wishes=3)
    for task in (library.tasks[index] for index in range(300)):
        kinds = task.info["kinds"]
        assert sum(kind.startswith(("waive", "fine")) for kind in kinds) <= 1
        assert not {"reserve", "reserve_full"} <= set(kinds)
    shop = UserSim(kinds=["return", "card_balance"], wishes=3)
    for index in range(60):
        kinds = shop.tasks[index].info["kinds"]
        assert episode(shop, expert, index=index)[0] == 1.0
        if kinds[-1] == "card_balance":
            left = [
                p["balance"]
                for p in shop.desk.state["customers"][shop.ledger.scenario.person.customer_id][
                    "payments"
                ].values()
                if "balance" in p
            ]
            assert list(shop.ledger.scenario.wishes[-1].amounts) == left


@pytest.mark.parametrize("domain", DOMAINS)
def test_case_and_spaces_of_arguments_do_not_count(domain):
    class Alike(list):
        def __contains__(self, call):
            return any(_same(call, other) for other in self)

    def spelled(value):
        if isinstance(value, list):
            return [f" {part.lower()} " for part in value]
        return f" {value.lower()} "

    env = UserSim(domain=domain)
    for index in range(60):
        env.reset(seed=0, options={"index": index})
        env.ledger.calls = Alike()
        reward, terminated = 0.0, False
        while not terminated:
            move = next_move(env.ledger, RNG)
            if isinstance(move, Call):
                fixed = ("reason", "department")
                given = {k: v if k in fixed else spelled(v) for k, v in move.arguments.items()}
                move = env.call_text(move.name, **given)
            _, reward, terminated, truncated, info = env.step(move)
            assert not truncated
        assert reward == 1.0, (index, info["score"])


def test_a_desk_may_override_a_tool_without_marking_it_again(monkeypatch):
    class Strict(DOMAINS["shop"]):
        """Looks nobody up."""

        def get_customer(self, customer_id: str) -> str:
            """Never.

            Args:
                customer_id: Whose.
            """
            return "no"

    names = list(UserSim().tools)
    monkeypatch.setattr(user_sim, "DOMAINS", {"shop": Strict})
    env = UserSim()
    env.reset(seed=0)
    assert list(env.tools) == names
    assert env.step(env.call_text("get_customer", customer_id="x"))[0][0]["content"] == "no"
