"""Questions about the clinic database."""

from __future__ import annotations

from rl_envs.text.sql_questions.question import ANY_ORDER, Question

QUESTIONS = (
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
