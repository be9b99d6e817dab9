"""Questions about the library database."""

from __future__ import annotations

from rl_envs.text.sql_questions.question import ANY_ORDER, Question

QUESTIONS = (
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
)
