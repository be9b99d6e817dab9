"""The desk of an online shop: orders that are cancelled, returned, exchanged and sent elsewhere."""

from __future__ import annotations

from random import Random
from typing import Any, Literal

from rl_envs.text.user_sim_shop_wishes import KINDS, drawn
from rl_envs.text.user_sim_world import Call, Desk, Scenario
from rl_envs.tools import Finish, ToolError, tool

POLICY = """\
You work at the service desk of an online shop. A customer writes to you. In each turn you either \
call tools or write to the customer; text beside a call is not sent.

1. First find out who writes: ask for the e-mail address, or for the full name and the zip code, \
and find the customer with what you are told. Use no other tool before. If nobody is found, refuse.
2. Help customers with their own orders only.
3. Look at an order with get_order before you change it, or refuse to.
4. Before you cancel, return, exchange or change an address, name the order and every detail (the \
reason; the items; where the money goes; the new item; the new address), and ask whether to go \
ahead. Act only after the customer says yes to that. Afterwards tell the outcome.
5. Cancel: only orders that are pending, and only for the reasons "no longer needed" or "ordered \
by mistake". Tell the amount that is refunded.
6. Return: only delivered orders, at most 30 days after the delivery. The money goes to the \
payment that the order was paid with, or to a gift card of the customer. Tell the amount.
7. Exchange: only delivered orders, at most 30 days after the delivery; one item for another of \
the same product that is in stock. The difference in price goes through a payment of the customer; \
tell it.
8. Change of address: only orders that are pending.
9. An order is changed once: where `changes` is not 0, refuse any return, exchange or new address.
10. What these rules forbid you refuse clearly, and change nothing. Transfer to a human only for \
lost parcels, damaged goods and company accounts, once you know the customer."""

Reason = Literal["no longer needed", "ordered by mistake", "other"]
Department = Literal["lost parcels", "damaged goods", "company accounts"]


class Shop(Desk):
    """Tools over customers, products and orders."""

    name = "shop"
    policy = POLICY
    kinds = KINDS
    alone = ("stranger",)
    last = ("lost", "damaged", "company")

    @classmethod
    def draw(cls, rng: Random, kinds: Any) -> Scenario:
        """A shop, a customer, and orders that fit the wishes."""
        return drawn(rng, kinds)

    @tool(inline=True)
    def get_order(self, order_id: str) -> dict[str, Any]:
        """Show an order: its status, dates, items, address, payment and total.

        Args:
            order_id: The order number, such as W12345.
        """
        self.watcher.watch(Call("get_order", {"order_id": order_id.strip().upper()}))
        found: dict[str, Any] = self.row("orders", order_id)
        return found

    @tool(inline=True)
    def get_product(self, name: str) -> dict[str, Any]:
        """Show the items of a product with their options, prices and stock.

        Args:
            name: The product's name, such as desk lamp.
        """
        self.watcher.watch(Call("get_product", {"name": name.strip().casefold()}))
        found = self.state["products"].get(name.strip().casefold())
        if found is None:
            raise ToolError(f"there is no product {name[:40]!r}")
        return dict(found)

    @tool(inline=True)
    def cancel_order(self, order_id: str, reason: Reason) -> dict[str, Any]:
        """Cancel a whole order and refund its total to the payment that it was paid with.

        Args:
            order_id: The order number.
            reason: Why.
        """
        call = Call("cancel_order", {"order_id": order_id, "reason": reason})
        self.watcher.watch(call)
        order = self.row("orders", order_id)
        if order["status"] == "cancelled":
            raise ToolError("the order is cancelled already")
        order |= {"status": "cancelled", "reason": reason, "refunded": order["total"]}
        self._pay(order["paid_with"], order["total"])
        self.watcher.changed(call)
        return {"status": "cancelled", "refunded": order["total"]}

    @tool(inline=True)
    def return_items(self, order_id: str, item_ids: list[str], refund_to: str) -> dict[str, Any]:
        """Take items of an order back and refund their prices.

        Args:
            order_id: The order number.
            item_ids: The ids of the items.
            refund_to: The id of the payment that gets the money.
        """
        call = Call(
            "return_items", {"order_id": order_id, "item_ids": item_ids, "refund_to": refund_to}
        )
        self.watcher.watch(call)
        order = self.row("orders", order_id)
        wanted = sorted({item_id.strip().upper() for item_id in item_ids})
        prices = {item["item_id"]: item["price"] for item in order["items"]}
        if not wanted or not set(wanted) <= set(prices) - set(order.get("returned", ())):
            raise ToolError(f"the order has the items {sorted(prices)}; name some not yet returned")
        refund = round(sum(prices[item_id] for item_id in wanted), 2)
        self._pay(refund_to, refund)
        order["status"] = "return requested"
        order["changes"] += 1
        order["returned"] = sorted([*order.get("returned", ()), *wanted])
        order["refunded_to"] = refund_to.strip().upper()
        self.watcher.changed(call)
        return {"status": order["status"], "refund": refund}

    @tool(inline=True)
    def exchange_item(
        self, order_id: str, item_id: str, new_item_id: str, payment_id: str
    ) -> dict[str, Any]:
        """Exchange an item of an order for another one.

        Args:
            order_id: The order number.
            item_id: The id of the item that comes back.
            new_item_id: The id of the item that is sent.
            payment_id: The id of the payment that pays or gets the difference in price.
        """
        call = Call(
            "exchange_item",
            {
                "order_id": order_id,
                "item_id": item_id,
                "new_item_id": new_item_id,
                "payment_id": payment_id,
            },
        )
        self.watcher.watch(call)
        order = self.row("orders", order_id)
        old = next((i for i in order["items"] if i["item_id"] == item_id.strip().upper()), None)
        if old is None:
            raise ToolError(f"the order has no item {item_id[:40]!r}")
        variants = self.state["products"][old["product"]]
        new = variants.get(new_item_id.strip().upper())
        if new is None or new["stock"] < 1:
            raise ToolError(f"{old['product']} has no item {new_item_id[:40]!r} in stock")
        difference = round(new["price"] - old["price"], 2)
        self._pay(payment_id, -difference)
        new["stock"] -= 1
        old |= {"item_id": new_item_id.strip().upper()}
        old |= {"options": new["options"], "price": new["price"]}
        order["status"] = "exchange requested"
        order["changes"] += 1
        self.watcher.changed(call)
        return {"status": order["status"], "difference": difference}

    @tool(inline=True)
    def modify_address(self, order_id: str, street: str, city: str, zip_code: str) -> str:
        """Send an order to another address.

        Args:
            order_id: The order number.
            street: House number and street, such as 5 Oak Street.
            city: The city.
            zip_code: The zip code.
        """
        address = {"street": street, "city": city, "zip_code": zip_code}
        call = Call("modify_address", {"order_id": order_id, **address})
        self.watcher.watch(call)
        order = self.row("orders", order_id)
        order["address"] = {key: " ".join(value.split()) for key, value in address.items()}
        order["changes"] += 1
        self.watcher.changed(call)
        return "the address is changed"

    @tool(inline=True)
    def transfer_to_human(self, customer_id: str, department: Department) -> Finish:
        """Hand the customer over to a human. It ends the conversation.

        Args:
            customer_id: The customer's id.
            department: Who should take over.
        """
        return self.transferred(customer_id, department)

    def _pay(self, payment_id: str, amount: float) -> None:
        """Sends an amount to a payment, whoever has it; a negative one is taken from it."""
        wanted = payment_id.strip().upper()
        for customer in self.state["customers"].values():
            payment = customer["payments"].get(wanted)
            if payment is None:
                continue
            if "balance" in payment:
                if payment["balance"] + amount < 0:
                    raise ToolError(f"{wanted} has {payment['balance']}, which is not enough")
                payment["balance"] = round(payment["balance"] + amount, 2)
            payment["moved"] = [*payment.get("moved", ()), amount]
            return
        raise ToolError(f"there is no payment {payment_id[:40]!r}")
