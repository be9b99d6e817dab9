"""Questions about the shop database."""

from __future__ import annotations

from rl_envs.text.sql_questions.question import ANY_ORDER, Question

QUESTIONS = (
    Question(
        "shop",
        "filter and count",
        "How many products of the category {category} cost more than {price} cents?",
        "SELECT COUNT(*) FROM product WHERE category = '{category}' AND price > {price}",
        (
            "SELECT COUNT(*) FROM product WHERE category = '{category}'",
            "SELECT COUNT(*) FROM product WHERE price > {price}",
        ),
    ),
    Question(
        "shop",
        "join and aggregate",
        "How many pieces of products of the category {category} were bought in purchases of the "
        "year {year}, all quantities added up?",
        "SELECT SUM(item.quantity) FROM item JOIN product ON product.id = item.product_id "
        "JOIN purchase ON purchase.id = item.purchase_id "
        "WHERE product.category = '{category}' AND purchase.day LIKE '{year}-%'",
        (
            "SELECT COUNT(*) FROM item JOIN product ON product.id = item.product_id "
            "JOIN purchase ON purchase.id = item.purchase_id "
            "WHERE product.category = '{category}' AND purchase.day LIKE '{year}-%'",
            "SELECT SUM(item.quantity) FROM item JOIN product ON product.id = item.product_id "
            "WHERE product.category = '{category}'",
        ),
    ),
    Question(
        "shop",
        "group and having",
        "Which customers made at least {n} purchases? Give each one's name and number of "
        f"purchases. {ANY_ORDER}",
        "SELECT customer.name, COUNT(*) FROM customer JOIN purchase "
        "ON purchase.customer_id = customer.id GROUP BY customer.id HAVING COUNT(*) >= {n}",
        (
            "SELECT customer.name, COUNT(*) FROM customer JOIN purchase "
            "ON purchase.customer_id = customer.id GROUP BY customer.id HAVING COUNT(*) > {n}",
        ),
    ),
    Question(
        "shop",
        "order and limit",
        "Which {k} products that cost at most {price} cents are the most expensive? Give their "
        "names, the most expensive first, and in alphabetical order where prices are equal.",
        "SELECT name FROM product WHERE price <= {price} ORDER BY price DESC, name LIMIT {k}",
        (
            "SELECT name FROM product WHERE price <= {price} ORDER BY price, name LIMIT {k}",
            "SELECT name FROM product ORDER BY price DESC, name LIMIT {k}",
        ),
    ),
    Question(
        "shop",
        "nested",
        "How many products of the category {category} cost more than the average over the "
        "products of all categories?",
        "SELECT COUNT(*) FROM product WHERE category = '{category}' "
        "AND price > (SELECT AVG(price) FROM product)",
        (
            "SELECT COUNT(*) FROM product WHERE category = '{category}' AND price > "
            "(SELECT AVG(price) FROM product WHERE category = '{category}')",
            "SELECT COUNT(*) FROM product WHERE price > (SELECT AVG(price) FROM product)",
        ),
    ),
    Question(
        "shop",
        "date range",
        "How many purchases were made from {first} to {last}, both days included?",
        "SELECT COUNT(*) FROM purchase WHERE day BETWEEN '{first}' AND '{last}'",
        (
            "SELECT COUNT(*) FROM purchase WHERE day >= '{first}'",
            "SELECT COUNT(*) FROM purchase WHERE day <= '{last}'",
        ),
    ),
    Question(
        "shop",
        "missing",
        "How many purchases of customers from {city} have not been shipped yet?",
        "SELECT COUNT(*) FROM purchase JOIN customer ON customer.id = purchase.customer_id "
        "WHERE customer.city = '{city}' AND purchase.shipped_on IS NULL",
        (
            "SELECT COUNT(*) FROM purchase JOIN customer ON customer.id = purchase.customer_id "
            "WHERE customer.city = '{city}' AND purchase.shipped_on = NULL",
            "SELECT COUNT(*) FROM purchase WHERE shipped_on IS NULL",
        ),
    ),
    Question(
        "shop",
        "anti-join",
        "Which products that cost more than {price} cents were never bought? Give their names. "
        f"{ANY_ORDER}",
        "SELECT name FROM product WHERE price > {price} "
        "AND id NOT IN (SELECT product_id FROM item)",
        (
            "SELECT name FROM product WHERE price > {price}",
            "SELECT name FROM product WHERE id NOT IN (SELECT product_id FROM item)",
        ),
    ),
    Question(
        "shop",
        "distinct",
        "How many different customers bought at least one product of the category {category}?",
        "SELECT COUNT(DISTINCT purchase.customer_id) FROM purchase "
        "JOIN item ON item.purchase_id = purchase.id "
        "JOIN product ON product.id = item.product_id WHERE product.category = '{category}'",
        (
            "SELECT COUNT(*) FROM purchase JOIN item ON item.purchase_id = purchase.id "
            "JOIN product ON product.id = item.product_id WHERE product.category = '{category}'",
        ),
    ),
)
