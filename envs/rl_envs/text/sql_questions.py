"""Questions about the generated databases, each with its query and with queries that are wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rl_envs.text.sql_schemas import (
    AIRLINES,
    AIRPORTS,
    CATEGORIES,
    CITIES,
    FIELDS,
    GENRES,
)


@dataclass(frozen=True)
class Question:
    """A family of questions that differ in their parameters.

    Attributes:
        schema: Of the database.
        family: The kind of query that answers it.
        text: The question, with ``{parameter}``; it says what is to be given, and in which order.
        sql: The query.
        mistakes: Queries that someone might write who has not understood the question. On at least
            one database of a task each must give something else.
    """

    schema: str
    family: str
    text: str
    sql: str
    mistakes: tuple[str, ...]


PARAMETERS: Mapping[str, Sequence[str | int]] = {
    "category": CATEGORIES,
    "genre": GENRES,
    "city": CITIES,
    "field": FIELDS,
    "airline": AIRLINES[:-1],
    "code": AIRPORTS,
    "year": range(2021, 2025),
    "n": range(2, 10),
    "k": range(2, 8),
    "price": range(500, 4500, 500),
    "pages": range(100, 600, 50),
    "seats": range(50, 300, 50),
    "fare": range(150, 550, 50),
    "birth": range(1940, 2010, 10),
    "author_birth": range(1910, 1990, 10),
    "published": range(1960, 2020, 10),
    "first": [f"{year}-{month:02d}-01" for year in (2021, 2022) for month in (1, 4, 7, 10)],
    "last": [f"{year}-{end}" for year in (2023, 2024) for end in ("03-31", "06-30", "09-30")],
}
"""What a parameter may be."""

ANY_ORDER = "The order of the rows does not matter."

QUESTIONS = (
    # A shop.
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
    # A library.
    Question(
        "library",
        "filter and count",
        "How many books of the genre {genre} have more than {pages} pages?",
        "SELECT COUNT(*) FROM book WHERE genre = '{genre}' AND pages > {pages}",
        (
            "SELECT COUNT(*) FROM book WHERE genre = '{genre}'",
            "SELECT COUNT(*) FROM book WHERE pages > {pages}",
        ),
    ),
    Question(
        "library",
        "join and aggregate",
        "What is the average number of pages of the books by authors who were born before "
        "{author_birth}? Leave out authors whose year of birth is not known.",
        "SELECT AVG(book.pages) FROM book JOIN author ON author.id = book.author_id "
        "WHERE author.birth_year < {author_birth}",
        (
            "SELECT AVG(book.pages) FROM book JOIN author ON author.id = book.author_id "
            "WHERE COALESCE(author.birth_year, 0) < {author_birth}",
            "SELECT AVG(pages) FROM book",
        ),
    ),
    Question(
        "library",
        "group and having",
        "Which members borrowed at least {n} different books? Give each one's name and number of "
        f"different books. {ANY_ORDER}",
        "SELECT member.name, COUNT(DISTINCT loan.book_id) FROM member JOIN loan "
        "ON loan.member_id = member.id GROUP BY member.id "
        "HAVING COUNT(DISTINCT loan.book_id) >= {n}",
        (
            "SELECT member.name, COUNT(*) FROM member JOIN loan "
            "ON loan.member_id = member.id GROUP BY member.id HAVING COUNT(*) >= {n}",
            "SELECT member.name, COUNT(DISTINCT loan.book_id) FROM member JOIN loan "
            "ON loan.member_id = member.id GROUP BY member.id HAVING COUNT(*) >= {n}",
        ),
    ),
    Question(
        "library",
        "order and limit",
        "Which {k} books published in {published} or later have the most pages? Give their titles "
        "and numbers of pages, the longest first, and in alphabetical order of their titles where "
        "the numbers are equal.",
        "SELECT title, pages FROM book WHERE year >= {published} "
        "ORDER BY pages DESC, title LIMIT {k}",
        ("SELECT title, pages FROM book ORDER BY pages DESC, title LIMIT {k}",),
    ),
    Question(
        "library",
        "nested",
        "How many books have more pages than the average book of the genre {genre}?",
        "SELECT COUNT(*) FROM book WHERE pages > "
        "(SELECT AVG(pages) FROM book WHERE genre = '{genre}')",
        (
            "SELECT COUNT(*) FROM book WHERE pages > (SELECT AVG(pages) FROM book)",
            "SELECT COUNT(*) FROM book WHERE genre = '{genre}' AND pages > "
            "(SELECT AVG(pages) FROM book WHERE genre = '{genre}')",
        ),
    ),
    Question(
        "library",
        "date range",
        "How many loans began from {first} to {last}, both days included?",
        "SELECT COUNT(*) FROM loan WHERE lent_on BETWEEN '{first}' AND '{last}'",
        (
            "SELECT COUNT(*) FROM loan WHERE lent_on >= '{first}'",
            "SELECT COUNT(*) FROM loan WHERE lent_on <= '{last}'",
        ),
    ),
    Question(
        "library",
        "missing",
        "How many loans to members from {city} have not been returned yet?",
        "SELECT COUNT(*) FROM loan JOIN member ON member.id = loan.member_id "
        "WHERE member.city = '{city}' AND loan.returned_on IS NULL",
        (
            "SELECT COUNT(*) FROM loan JOIN member ON member.id = loan.member_id "
            "WHERE member.city = '{city}'",
            "SELECT COUNT(*) FROM loan WHERE returned_on IS NULL",
        ),
    ),
    Question(
        "library",
        "anti-join",
        "Which books with more than {pages} pages were never lent? Give their titles. "
        f"{ANY_ORDER}",
        "SELECT title FROM book WHERE pages > {pages} AND NOT EXISTS "
        "(SELECT 1 FROM loan WHERE loan.book_id = book.id)",
        (
            "SELECT title FROM book WHERE pages > {pages}",
            "SELECT title FROM book WHERE id NOT IN (SELECT book_id FROM loan)",
        ),
    ),
    Question(
        "library",
        "distinct",
        "How many different members borrowed at least one book of the genre {genre}?",
        "SELECT COUNT(DISTINCT loan.member_id) FROM loan JOIN book ON book.id = loan.book_id "
        "WHERE book.genre = '{genre}'",
        (
            "SELECT COUNT(*) FROM loan JOIN book ON book.id = loan.book_id "
            "WHERE book.genre = '{genre}'",
        ),
    ),
    # Flights.
    Question(
        "flights",
        "filter and count",
        "How many flights with at least {seats} seats have the airport {code} as their origin?",
        "SELECT COUNT(*) FROM flight WHERE origin = '{code}' AND seats >= {seats}",
        (
            "SELECT COUNT(*) FROM flight WHERE destination = '{code}' AND seats >= {seats}",
            "SELECT COUNT(*) FROM flight WHERE origin = '{code}'",
        ),
    ),
    Question(
        "flights",
        "join and aggregate",
        "How many euros do the bookings of flights of the airline {airline} in the year {year} "
        "cost in total?",
        "SELECT SUM(booking.price) FROM booking JOIN flight ON flight.id = booking.flight_id "
        "JOIN airline ON airline.id = flight.airline_id "
        "WHERE airline.name = '{airline}' AND flight.day LIKE '{year}-%'",
        (
            "SELECT SUM(booking.price) FROM booking JOIN flight ON flight.id = booking.flight_id "
            "JOIN airline ON airline.id = flight.airline_id WHERE airline.name = '{airline}'",
            "SELECT SUM(booking.price) FROM booking JOIN flight ON flight.id = booking.flight_id "
            "WHERE flight.day LIKE '{year}-%'",
        ),
    ),
    Question(
        "flights",
        "group and having",
        "Which airlines have at least {n} flights with {seats} seats or more? Give each one's "
        f"name and number of such flights. {ANY_ORDER}",
        "SELECT airline.name, COUNT(*) FROM airline JOIN flight "
        "ON flight.airline_id = airline.id WHERE flight.seats >= {seats} "
        "GROUP BY airline.id HAVING COUNT(*) >= {n}",
        (
            "SELECT airline.name, COUNT(*) FROM airline JOIN flight "
            "ON flight.airline_id = airline.id GROUP BY airline.id HAVING COUNT(*) >= {n}",
        ),
    ),
    Question(
        "flights",
        "order and limit",
        "Which {k} passengers pay the most for all their bookings of flights in the year {year} "
        "together? Give each one's name and total, the highest total first, and in alphabetical "
        "order of the names where totals are equal. Leave out passengers without such a booking.",
        "SELECT passenger.name, SUM(booking.price) AS total FROM passenger "
        "JOIN booking ON booking.passenger_id = passenger.id "
        "JOIN flight ON flight.id = booking.flight_id WHERE flight.day LIKE '{year}-%' "
        "GROUP BY passenger.id ORDER BY total DESC, passenger.name LIMIT {k}",
        (
            "SELECT passenger.name, SUM(booking.price) AS total FROM passenger "
            "JOIN booking ON booking.passenger_id = passenger.id "
            "GROUP BY passenger.id ORDER BY total DESC, passenger.name LIMIT {k}",
            "SELECT passenger.name, MAX(booking.price) AS total FROM passenger "
            "JOIN booking ON booking.passenger_id = passenger.id "
            "JOIN flight ON flight.id = booking.flight_id WHERE flight.day LIKE '{year}-%' "
            "GROUP BY passenger.id ORDER BY total DESC, passenger.name LIMIT {k}",
        ),
    ),
    Question(
        "flights",
        "nested",
        "How many bookings of flights with the origin {code} cost more than the average over the "
        "bookings of all flights?",
        "SELECT COUNT(*) FROM booking JOIN flight ON flight.id = booking.flight_id "
        "WHERE flight.origin = '{code}' AND booking.price > (SELECT AVG(price) FROM booking)",
        (
            "SELECT COUNT(*) FROM booking WHERE price > (SELECT AVG(price) FROM booking)",
            "SELECT COUNT(*) FROM booking JOIN flight ON flight.id = booking.flight_id "
            "WHERE flight.origin = '{code}'",
        ),
    ),
    Question(
        "flights",
        "date range",
        "How many flights are there from {first} to {last}, both days included? Cancelled ones "
        "count, too.",
        "SELECT COUNT(*) FROM flight WHERE day BETWEEN '{first}' AND '{last}'",
        (
            "SELECT COUNT(*) FROM flight WHERE day >= '{first}'",
            "SELECT COUNT(*) FROM flight WHERE day BETWEEN '{first}' AND '{last}' "
            "AND delay IS NOT NULL",
        ),
    ),
    Question(
        "flights",
        "missing",
        "What is the average delay, in minutes, of the flights of the airline {airline} in the "
        "year {year} that were not cancelled? Flights on time count with 0.",
        "SELECT AVG(flight.delay) FROM flight JOIN airline ON airline.id = flight.airline_id "
        "WHERE airline.name = '{airline}' AND flight.day LIKE '{year}-%'",
        (
            "SELECT SUM(flight.delay) * 1.0 / COUNT(*) FROM flight "
            "JOIN airline ON airline.id = flight.airline_id "
            "WHERE airline.name = '{airline}' AND flight.day LIKE '{year}-%'",
            "SELECT AVG(flight.delay) FROM flight JOIN airline ON airline.id = flight.airline_id "
            "WHERE airline.name = '{airline}' AND flight.day LIKE '{year}-%' AND delay > 0",
        ),
    ),
    Question(
        "flights",
        "anti-join",
        "Which passengers have no booking that costs at most {fare} euros? Give their names. "
        f"Passengers without any booking count, too. {ANY_ORDER}",
        "SELECT name FROM passenger WHERE id NOT IN "
        "(SELECT passenger_id FROM booking WHERE price <= {fare})",
        (
            "SELECT name FROM passenger WHERE id NOT IN (SELECT passenger_id FROM booking)",
            "SELECT DISTINCT passenger.name FROM passenger "
            "JOIN booking ON booking.passenger_id = passenger.id WHERE booking.price > {fare}",
        ),
    ),
    Question(
        "flights",
        "distinct",
        "How many different passengers have a booking of a flight with the destination {code}?",
        "SELECT COUNT(DISTINCT booking.passenger_id) FROM booking "
        "JOIN flight ON flight.id = booking.flight_id WHERE flight.destination = '{code}'",
        (
            "SELECT COUNT(*) FROM booking JOIN flight ON flight.id = booking.flight_id "
            "WHERE flight.destination = '{code}'",
        ),
    ),
    # A clinic.
    Question(
        "clinic",
        "filter and count",
        "How many patients from {city} were born before {birth}?",
        "SELECT COUNT(*) FROM patient WHERE city = '{city}' AND birth_year < {birth}",
        (
            "SELECT COUNT(*) FROM patient WHERE city = '{city}'",
            "SELECT COUNT(*) FROM patient WHERE birth_year < {birth}",
        ),
    ),
    Question(
        "clinic",
        "join and aggregate",
        "How many euros were billed in total for visits of the year {year} to doctors of the "
        "field {field}?",
        "SELECT SUM(visit.fee) FROM visit JOIN doctor ON doctor.id = visit.doctor_id "
        "WHERE doctor.field = '{field}' AND visit.day LIKE '{year}-%'",
        (
            "SELECT SUM(visit.fee) FROM visit JOIN doctor ON doctor.id = visit.doctor_id "
            "WHERE doctor.field = '{field}'",
            "SELECT SUM(fee) FROM visit WHERE day LIKE '{year}-%'",
        ),
    ),
    Question(
        "clinic",
        "group and having",
        "Which drugs were prescribed at least {n} times to patients born in {birth} or later? "
        f"Give each drug and how many times. {ANY_ORDER}",
        "SELECT prescription.drug, COUNT(*) FROM prescription "
        "JOIN visit ON visit.id = prescription.visit_id "
        "JOIN patient ON patient.id = visit.patient_id WHERE patient.birth_year >= {birth} "
        "GROUP BY prescription.drug HAVING COUNT(*) >= {n}",
        ("SELECT drug, COUNT(*) FROM prescription GROUP BY drug HAVING COUNT(*) >= {n}",),
    ),
    Question(
        "clinic",
        "order and limit",
        "Which {k} patients had the most visits in the year {year}? Give each one's name and "
        "number of such visits, the highest number first, and in alphabetical order of the names "
        "where numbers are equal. Leave out patients without such a visit.",
        "SELECT patient.name, COUNT(*) AS visits FROM patient "
        "JOIN visit ON visit.patient_id = patient.id WHERE visit.day LIKE '{year}-%' "
        "GROUP BY patient.id ORDER BY visits DESC, patient.name LIMIT {k}",
        (
            "SELECT patient.name, COUNT(*) AS visits FROM patient "
            "JOIN visit ON visit.patient_id = patient.id "
            "GROUP BY patient.id ORDER BY visits DESC, patient.name LIMIT {k}",
            "SELECT patient.name, COUNT(*) AS visits FROM patient "
            "JOIN visit ON visit.patient_id = patient.id WHERE visit.day LIKE '{year}-%' "
            "GROUP BY patient.id ORDER BY visits DESC, patient.name DESC LIMIT {k}",
        ),
    ),
    Question(
        "clinic",
        "nested",
        "How many visits had a fee above the average fee of the billed visits to doctors of the "
        "field {field}?",
        "SELECT COUNT(*) FROM visit WHERE fee > (SELECT AVG(visit.fee) FROM visit "
        "JOIN doctor ON doctor.id = visit.doctor_id WHERE doctor.field = '{field}')",
        ("SELECT COUNT(*) FROM visit WHERE fee > (SELECT AVG(fee) FROM visit)",),
    ),
    Question(
        "clinic",
        "date range",
        "How many visits to doctors of the field {field} took place from {first} to {last}, both "
        "days included?",
        "SELECT COUNT(*) FROM visit JOIN doctor ON doctor.id = visit.doctor_id "
        "WHERE doctor.field = '{field}' AND visit.day BETWEEN '{first}' AND '{last}'",
        (
            "SELECT COUNT(*) FROM visit WHERE day BETWEEN '{first}' AND '{last}'",
            "SELECT COUNT(*) FROM visit JOIN doctor ON doctor.id = visit.doctor_id "
            "WHERE doctor.field = '{field}'",
        ),
    ),
    Question(
        "clinic",
        "missing",
        "How many patients born in {birth} or later have no known phone number?",
        "SELECT COUNT(*) FROM patient WHERE birth_year >= {birth} AND phone IS NULL",
        (
            "SELECT COUNT(*) FROM patient WHERE birth_year >= {birth}",
            "SELECT COUNT(*) FROM patient WHERE phone IS NULL",
        ),
    ),
    Question(
        "clinic",
        "anti-join",
        "Which patients from {city} never visited a doctor of the field {field}? Give their "
        f"names. {ANY_ORDER}",
        "SELECT name FROM patient WHERE city = '{city}' AND id NOT IN (SELECT visit.patient_id "
        "FROM visit JOIN doctor ON doctor.id = visit.doctor_id WHERE doctor.field = '{field}')",
        (
            "SELECT name FROM patient WHERE city = '{city}'",
            "SELECT DISTINCT patient.name FROM patient JOIN visit ON visit.patient_id = patient.id "
            "JOIN doctor ON doctor.id = visit.doctor_id "
            "WHERE patient.city = '{city}' AND doctor.field <> '{field}'",
        ),
    ),
    Question(
        "clinic",
        "distinct",
        "How many different drugs were prescribed to patients from {city}?",
        "SELECT COUNT(DISTINCT prescription.drug) FROM prescription "
        "JOIN visit ON visit.id = prescription.visit_id "
        "JOIN patient ON patient.id = visit.patient_id WHERE patient.city = '{city}'",
        (
            "SELECT COUNT(*) FROM prescription JOIN visit ON visit.id = prescription.visit_id "
            "JOIN patient ON patient.id = visit.patient_id WHERE patient.city = '{city}'",
        ),
    ),
)

FAMILIES = tuple(dict.fromkeys(question.family for question in QUESTIONS))
