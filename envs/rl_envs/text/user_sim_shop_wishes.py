"""A generated shop: its products and orders, and what its customers want."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from functools import partial
from itertools import product
from random import Random
from typing import Any

from rl_envs.text.user_sim_world import Call, Maker, Person, Scenario, State, Wish, money

PRODUCTS: Mapping[str, Mapping[str, Sequence[str]]] = {
    "desk lamp": {"colour": ("black", "white", "brass"), "bulb": ("warm", "cold")},
    "rain jacket": {"colour": ("yellow", "navy", "olive"), "size": ("small", "medium", "large")},
    "backpack": {"colour": ("grey", "red", "green"), "volume": ("20 litres", "30 litres")},
    "water bottle": {"colour": ("silver", "blue", "pink"), "material": ("steel", "glass")},
    "running shoes": {"colour": ("orange", "teal"), "size": ("40", "42", "44")},
    "office chair": {"cover": ("mesh", "leather", "fabric"), "arms": ("fixed", "adjustable")},
    "headphones": {"colour": ("ivory", "graphite"), "type": ("wired", "wireless")},
    "tea kettle": {"finish": ("copper", "enamel"), "capacity": ("one litre", "two litres")},
    "wool blanket": {"pattern": ("plain", "striped", "checked"), "size": ("single", "double")},
    "bookshelf": {"wood": ("oak", "pine", "walnut"), "height": ("low", "tall")},
    "wall clock": {"face": ("round", "square"), "colour": ("mint", "charcoal")},
    "yoga mat": {"thickness": ("thin", "thick"), "colour": ("purple", "sand", "turquoise")},
    "garden hose": {"length": ("10 metres", "20 metres"), "colour": ("lime", "anthracite")},
    "camping tent": {"persons": ("two persons", "four persons"), "colour": ("khaki", "crimson")},
    "coffee grinder": {"drive": ("manual", "electric"), "colour": ("cream", "maroon")},
    "picture frame": {"size": ("A5", "A4", "A3"), "wood": ("birch", "ebony")},
}
VARIANTS = 4  # items of a product; the last is sold out
RETURN_DAYS = 30
REASONS = {
    "no longer needed": ("I no longer need it.", ("no longer need",), "you no longer need it"),
    "ordered by mistake": ("I ordered it by mistake.", ("mistake",), "you ordered it by mistake"),
}
KINDS: Mapping[str, float] = {
    "cancel": 3.0,
    "return": 3.0,
    "exchange": 3.0,
    "address": 2.0,
    "order_total": 1.0,
    "card_balance": 1.0,
    "lost": 0.7,
    "damaged": 0.7,
    "company": 0.6,
    "cancel_shipped": 0.35,
    "cancel_reason": 0.35,
    "return_late": 0.35,
    "return_elsewhere": 0.35,
    "exchange_late": 0.35,
    "exchange_sold_out": 0.35,
    "address_shipped": 0.35,
    "changed_before": 0.35,
    "not_theirs": 0.35,
    "stranger": 0.35,
}


class _Shop:
    """A shop in the making."""

    def __init__(self, rng: Random) -> None:
        self.rng, self.maker = rng, Maker(rng)
        self.today = date(2025, 1, 1) + timedelta(days=rng.randrange(365))
        self.state: State = {
            "today": self.today.isoformat(),
            "customers": {},
            "products": {name: self._variants(options) for name, options in PRODUCTS.items()},
            "orders": {},
            "transfers": [],
        }
        self.unsold: list[str] = []
        self.refunded = 0.0  # to the gift card, by the wishes so far
        self.someone = self.customer()
        for _ in range(3):
            self.order(self.customer(), rng.choice(("pending", "shipped", "delivered")))
        self.unsold = rng.sample(list(PRODUCTS), len(PRODUCTS))  # one's orders share no product

    def _variants(self, options: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        chosen = self.rng.sample(list(product(*options.values())), VARIANTS)
        base, step = self.rng.randrange(900, 9000), self.rng.randrange(50, 600)
        return {
            self.maker.fresh("I", 5): {
                "options": dict(zip(options, values, strict=True)),
                "price": (base + n * step) / 100,
                "stock": self.rng.randrange(1, 10) if n < VARIANTS - 1 else 0,
            }
            for n, values in enumerate(chosen)
        }

    def customer(self) -> str:
        """A customer with three payments and no orders."""
        made = self.maker.customer()
        made["payments"] = {
            self.maker.fresh("P", 4): {
                "kind": "credit card",
                "ends": str(self.rng.randrange(1000, 10000)),
            },
            self.maker.fresh("P", 4): {"kind": "PayPal account"},
            self.maker.fresh("P", 4): {
                "kind": "gift card",
                "balance": self.rng.randrange(500, 9000) / 100,
            },
        }
        made["orders"] = []
        customer_id = self.maker.fresh("C", 4)
        self.state["customers"][customer_id] = made
        return customer_id

    def payment(self, customer_id: str, kind: str) -> str:
        """The id of a customer's payment of a kind."""
        payments = self.state["customers"][customer_id]["payments"]
        return next(key for key, payment in payments.items() if payment["kind"] == kind)

    def order(self, customer_id: str, status: str, days: int | None = None) -> str:
        """An order of two or three products; ``days`` since its delivery."""
        size = self.rng.randrange(2, 4)
        names = [self.unsold.pop() for _ in range(size)] if self.unsold else None
        items = []
        for name in names or self.rng.sample(list(PRODUCTS), size):
            variants = self.state["products"][name]
            item_id = self.rng.choice(list(variants)[: VARIANTS - 1])
            known = {key: variants[item_id][key] for key in ("options", "price")}
            items.append({"item_id": item_id, "product": name, **known})
        since = self.rng.randrange(1, 20) if days is None else days
        delivered = self.today - timedelta(days=since) if status == "delivered" else None
        placed = (delivered or self.today) - timedelta(days=self.rng.randrange(1, 9))
        paid_with = self.payment(customer_id, self.rng.choice(("credit card", "PayPal account")))
        order_id = self.maker.fresh("W", 5)
        self.state["orders"][order_id] = {
            "customer_id": customer_id,
            "status": status,
            "placed": placed.isoformat(),
            "delivered": delivered and delivered.isoformat(),
            "items": items,
            "address": dict(self.state["customers"][customer_id]["address"]),
            "paid_with": paid_with,
            "total": round(sum(item["price"] for item in items), 2),
            "changes": 0,
        }
        self.state["customers"][customer_id]["orders"].append(order_id)
        return order_id

    # Wishes.

    def fact(self, order_id: str, *, number: bool = False) -> str:
        """What the customer says of an order; a third of the time they lack the number."""
        if number or self.rng.random() < 2 / 3:
            return f"The order number is {order_id}."
        name = self.state["orders"][order_id]["items"][0]["product"]
        return f"I do not have the number at hand. It is the order with the {name}."

    def cancel(self, kind: str) -> Wish:
        """A pending order for an accepted reason; or shipped, or for another reason."""
        status = "shipped" if kind == "cancel_shipped" else "pending"
        order_id = self.order(self.someone, status)
        reason = self.rng.choice(list(REASONS))
        said, words, because = REASONS[reason]
        facts = {"order": self.fact(order_id), "reason": said}
        if kind == "cancel_reason":
            facts["reason"] = self.rng.choice(
                ("I found it cheaper elsewhere.", "The delivery takes too long for me.")
            )
        order = self.state["orders"][order_id]
        paid = self.kind_of(order["paid_with"])
        refund = money(order["total"])
        refused = f"I am sorry, order {order_id} cannot be cancelled: "
        refused += "it is shipped." if kind == "cancel_shipped" else "that reason is not accepted."
        done = f"Order {order_id} has been cancelled; {refund} will be refunded to your {paid}."
        return Wish(
            kind,
            "do" if kind == "cancel" else "refuse",
            "I would like to cancel an order.",
            facts,
            ("cancel",),
            details=((order_id,), words),
            ids=(order_id, order["paid_with"], self.someone, *_items_of(order)),
            rivals=tuple(words for _, words, _ in REASONS.values()),
            reads=self.reads(order_id),
            looks=self.looks(order_id),
            action=Call("cancel_order", {"order_id": order_id, "reason": reason}),
            amounts=(order["total"],) if kind == "cancel" else (),
            wonders="How much do I get back?",
            question=f"I would cancel order {order_id} because {because}. Shall I go ahead?",
            verdict=done if kind == "cancel" else refused,
        )

    def return_(self, kind: str) -> Wish:
        """One or two items of a delivered order; or too late, or with the money elsewhere."""
        late = kind == "return_late"
        days = self.rng.randrange(RETURN_DAYS + 1, 70) if late else self.rng.randrange(1, 31)
        order_id = self.order(self.someone, "delivered", days)
        order = self.state["orders"][order_id]
        items = self.rng.sample(order["items"], self.rng.randrange(1, 3))
        original = self.kind_of(order["paid_with"])
        other = next(k for k in ("credit card", "PayPal account") if k != original)
        to = other if kind == "return_elsewhere" else self.rng.choice((original, "gift card"))
        names = " and the ".join(item["product"] for item in items)
        payment_id = self.payment(self.someone, to)
        ids = [item["item_id"] for item in items]
        refund = round(sum(item["price"] for item in items), 2)
        if kind == "return" and to == "gift card":
            self.refunded += refund
        why = "30 days have passed." if late else f"the refund may not go to your {to}."
        done = f"The return of the {names} has been requested; {money(refund)} go to your {to}."
        return Wish(
            kind,
            "do" if kind == "return" else "refuse",
            "I would like to return something.",
            {
                "order": self.fact(order_id),
                "item": f"It is about the {names}.",
                "payment": f"Please refund it to my {to}.",
            },
            ("return", "refund", "take back", "send back", "sent back"),
            details=(
                (order_id,),
                *((item["item_id"], item["product"]) for item in items),
                (*self.named(payment_id), *(("original payment",) if to == original else ())),
            ),
            ids=(order_id, *ids, payment_id, order["paid_with"], self.someone),
            rivals=self.payments(),
            reads=self.reads(order_id),
            looks=self.looks(order_id),
            action=Call(
                "return_items", {"order_id": order_id, "item_ids": ids, "refund_to": payment_id}
            ),
            amounts=(refund,) if kind == "return" else (),
            wonders="How much do I get back?",
            question=f"I would take back the {names} of order {order_id} as a return and refund "
            f"{money(refund)} to your {to}. Shall I go ahead?",
            verdict=done if kind == "return" else f"I am sorry, I cannot accept the return: {why}",
        )

    def exchange(self, kind: str) -> Wish:
        """An item for another of its product; or too late, or for one that is sold out."""
        late = kind == "exchange_late"
        days = self.rng.randrange(RETURN_DAYS + 1, 70) if late else self.rng.randrange(1, 31)
        order_id = self.order(self.someone, "delivered", days)
        old = self.rng.choice(self.state["orders"][order_id]["items"])
        variants = self.state["products"][old["product"]]
        sold_out = kind == "exchange_sold_out"
        ids = list(variants)
        others = ids[-1:] if sold_out else [key for key in ids[:-1] if key != old["item_id"]]
        new_id = self.rng.choice(others)
        new = variants[new_id]
        described = ", ".join(f"{key} {value}" for key, value in new["options"].items())
        differing = [v for k, v in new["options"].items() if old["options"][k] != v]
        pays = self.rng.choice(("credit card", "PayPal account"))
        payment_id = self.payment(self.someone, pays)
        difference = round(new["price"] - old["price"], 2)
        sense = "charged to" if difference > 0 else "refunded to"
        moved = f"{money(abs(difference))} {sense} your {pays}"
        product = Call("get_product", {"name": old["product"]})
        why = "that item is sold out." if sold_out else "30 days have passed."
        refused = f"I am sorry, I cannot exchange the {old['product']}: {why}"
        done = f"The exchange of the {old['product']} has been requested; {moved}."
        return Wish(
            kind,
            "do" if kind == "exchange" else "refuse",
            "I would like to exchange something.",
            {
                "order": self.fact(order_id),
                "item": f"It is about the {old['product']}.",
                "new": f"I would rather have this one: {described}.",
                "payment": f"The difference can go through my {pays}.",
            },
            ("exchang", "swap", "replac"),
            details=(
                (order_id,),
                (old["item_id"], old["product"]),
                (new_id, *differing),
                self.named(payment_id),
            ),
            ids=(order_id, old["item_id"], new_id, payment_id, self.someone),
            rivals=self.payments(),
            reads=(*self.reads(order_id), product),
            looks=(*self.looks(order_id), *((product,) if sold_out else ())),
            action=Call(
                "exchange_item",
                {
                    "order_id": order_id,
                    "item_id": old["item_id"],
                    "new_item_id": new_id,
                    "payment_id": payment_id,
                },
            ),
            amounts=(abs(difference),) if kind == "exchange" else (),
            wonders="What is the difference in price?",
            question=f"I would exchange the {old['product']} of order {order_id} for {described}, "
            f"{moved}. Shall I go ahead?",
            verdict=done if kind == "exchange" else refused,
        )

    def address(self, kind: str) -> Wish:
        """A pending order to another address; or a shipped one, or one changed before."""
        order_id = self.order(self.someone, "shipped" if kind == "address_shipped" else "pending")
        order = self.state["orders"][order_id]
        order["changes"] = 1 if kind == "changed_before" else 0
        new = self.maker.address()
        full = f"{new['street']}, {new['city']}, {new['zip_code']}"
        why = "it is shipped." if kind == "address_shipped" else "it has been changed once already."
        refused = f"I am sorry, I cannot change the address of order {order_id}: {why}"
        return Wish(
            kind,
            "do" if kind == "address" else "refuse",
            "I would like an order to go to another address.",
            {"order": self.fact(order_id), "address": f"The new address is {full}."},
            ("address", "deliver", "ship", "send", "sent", "go to", "going to", "chang", "updat"),
            details=((order_id,), (new["street"],)),
            ids=(order_id, self.someone, *_items_of(order)),
            reads=self.reads(order_id),
            looks=self.looks(order_id),
            action=Call("modify_address", {"order_id": order_id, **new}),
            question=f"I would send order {order_id} to the address {full}. Shall I go ahead?",
            verdict=f"The address of order {order_id} has been changed."
            if kind == "address"
            else refused,
        )

    def not_theirs(self, kind: str) -> Wish:
        """Somebody else's order, cancelled: by a customer, or by one who is none."""
        owners = [key for key in self.state["customers"] if key != self.someone]
        order_id = self.order(self.rng.choice(owners), "pending")
        reason = self.rng.choice(list(REASONS))
        who = "" if kind == "stranger" else " My sister placed it."
        return Wish(
            kind,
            "refuse",
            "I would like to cancel an order.",
            {"order": f"The order number is {order_id}.{who}", "reason": REASONS[reason][0]},
            ("cancel", "help", "find", "identif", "verif", "locat", "account", "customer"),
            details=((order_id,), REASONS[reason][1]),
            ids=(order_id,),
            reads=() if kind == "stranger" else self.reads(order_id),
            looks=() if kind == "stranger" else self.looks(order_id),
            verdict="I am sorry, I cannot help you: I cannot find you in our books."
            if kind == "stranger"
            else f"I am sorry, I cannot cancel order {order_id} for you: it is not your order.",
        )

    def told(self, kind: str) -> Wish:
        """An amount: an order's total, a gift card's balance."""
        customer = self.state["customers"][self.someone]
        facts: dict[str, str] = {}
        if kind == "card_balance":
            payment = customer["payments"][self.payment(self.someone, "gift card")]
            says = "I would like to know how much is left on my gift card."
            reads: tuple[Call, ...] = (Call("get_customer", {"customer_id": self.someone}),)
            amount = round(payment["balance"] + self.refunded, 2)
        else:
            order_id = self.order(self.someone, self.rng.choice(("pending", "delivered")))
            says = "I would like to know what I paid for an order."
            facts = {"order": self.fact(order_id)}
            reads = self.reads(order_id)
            amount = self.state["orders"][order_id]["total"]
        verdict = f"It is {money(amount)}."
        return Wish(kind, "tell", says, facts, (), reads=reads, amounts=(amount,), verdict=verdict)

    def transfer(self, kind: str) -> Wish:
        """Something that only a human can do."""
        department, status, says = {
            "lost": ("lost parcels", "shipped", "My parcel has not arrived for weeks."),
            "damaged": ("damaged goods", "delivered", "Something I ordered arrived broken."),
            "company": ("company accounts", "pending", "I need an invoice for my company."),
        }[kind]
        order_id = self.order(self.someone, status)
        arguments = {"customer_id": self.someone, "department": department}
        return Wish(
            kind,
            "transfer",
            says,
            {"order": self.fact(order_id)},
            (),
            ids=(order_id,),
            reads=self.reads(order_id),
            action=Call("transfer_to_human", arguments),
        )

    def reads(self, order_id: str) -> tuple[Call, ...]:
        """What is looked up of an order."""
        return (
            Call("get_customer", {"customer_id": self.someone}),
            Call("get_order", {"order_id": order_id}),
        )

    def looks(self, order_id: str) -> tuple[Call, ...]:
        """What of it must be looked up before a refusal."""
        return (Call("get_order", {"order_id": order_id}),)

    def kind_of(self, payment_id: str) -> str:
        """Of a payment of the customer who writes."""
        kind: str = self.state["customers"][self.someone]["payments"][payment_id]["kind"]
        return kind

    def named(self, payment_id: str) -> tuple[str, ...]:
        """What a payment of the customer who writes may be called."""
        kind = self.kind_of(payment_id)
        ends = self.state["customers"][self.someone]["payments"][payment_id].get("ends", kind)
        return (payment_id, kind, ends, *(("PayPal",) if kind == "PayPal account" else ()))

    def payments(self) -> tuple[tuple[str, ...], ...]:
        """What each of their payments may be called."""
        return tuple(map(self.named, self.state["customers"][self.someone]["payments"]))


def _items_of(order: Mapping[str, Any]) -> list[str]:
    return [item["item_id"] for item in order["items"]]


def drawn(rng: Random, kinds: Sequence[str]) -> Scenario:
    """A shop, a customer and their wishes of these kinds."""
    shop = _Shop(rng)
    customer = shop.state["customers"][shop.someone]
    person: Person = shop.maker.person(shop.someone, customer)
    if "stranger" in kinds:
        person = shop.maker.person(None, shop.maker.customer())
    wishes = tuple(_maker_of(shop, kind)() for kind in kinds)
    shop.order(shop.someone, rng.choice(("pending", "delivered")))
    return Scenario(shop.state, person, wishes)


def _maker_of(shop: _Shop, kind: str) -> Any:
    family = kind.partition("_")[0]
    made = {
        "cancel": shop.cancel,
        "return": shop.return_,
        "exchange": shop.exchange,
        "address": shop.address,
        "changed": shop.address,
        "not": shop.not_theirs,
        "stranger": shop.not_theirs,
        "order": shop.told,
        "card": shop.told,
    }
    return partial(made.get(family, shop.transfer), kind)
