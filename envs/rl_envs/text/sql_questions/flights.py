"""Questions about the flights database."""

from __future__ import annotations

from rl_envs.text.sql_questions.question import ANY_ORDER, Question

QUESTIONS = (
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
)
