"""Tasks that read files and write or change others."""

from __future__ import annotations

import re
from collections import Counter
from random import Random

from rl_envs.text.terminal_tasks.chore import Chore, Files, gzip_file, lines, tar_file, text
from rl_envs.text.terminal_tasks.names import PEOPLE, paragraph, places, sentence, words


def columns(rng: Random, difficulty: int) -> Chore:
    """Columns of a CSV summed: all, by group, joined with another table."""
    goods = words(rng, 5)
    rows = [
        (rng.choice(goods), rng.choice(PEOPLE[:6]), rng.randint(1, 60), rng.randint(100, 999))
        for _ in range(20 + 20 * difficulty)
    ]
    table = lines(["item,buyer,count,price", *(",".join(map(str, row)) for row in rows)])
    start: Files = {"sales.csv": table, "readme.txt": text(paragraph(rng))}
    if difficulty == 1:
        buyer = rng.choice([row[1] for row in rows])
        total = sum(row[2] for row in rows if row[1] == buyer)
        return Chore(
            f"What is the sum of the column count of sales.csv over the rows of the buyer {buyer}? "
            "Write the number to total.txt.",
            start, {**start, "total.txt": text(str(total))},
            f"awk -F, '$2 == \"{buyer}\" {{s += $3}} END {{print s}}' sales.csv > total.txt",
        )  # fmt: skip
    if difficulty == 2:
        totals: Counter[str] = Counter()
        for item, _, count, price in rows:
            totals[item] += count * price
        made = lines([f"{item},{totals[item]}" for item in sorted(totals)])
        return Chore(
            "Make totals.csv from sales.csv: for each item a line ITEM,TOTAL, where TOTAL is the "
            "sum of count*price over its rows; sorted by item, without a header.",
            start, {**start, "totals.csv": made},
            "awk -F, 'NR > 1 {s[$1] += $3 * $4} END {for (i in s) print i \",\" s[i]}' sales.csv "
            "| sort > totals.csv",
        )  # fmt: skip
    towns = {person: rng.choice(("north", "south", "east", "west")) for person in PEOPLE[:6]}
    start["buyers.csv"] = lines(["buyer,region", *(f"{a},{b}" for a, b in towns.items())])
    sums: Counter[str] = Counter()
    for _, buyer, count, price in rows:
        sums[towns[buyer]] += count * price
    ranked = sorted(sums, key=lambda region: (-sums[region], region))
    return Chore(
        "buyers.csv gives each buyer's region. Make regions.txt with a line 'REGION TOTAL' for "
        "each region that has sales in sales.csv, where TOTAL is the sum of count*price over its "
        "buyers' rows; the largest total first.",
        start, {**start, "regions.txt": lines([f"{r} {sums[r]}" for r in ranked])},
        "awk -F, 'FNR == 1 {next} NR == FNR {r[$1] = $2; next} {s[r[$2]] += $3 * $4} "
        "END {for (i in s) print i, s[i]}' buyers.csv sales.csv | sort -k2,2nr -k1,1 > regions.txt",
    )  # fmt: skip


def logs(rng: Random, difficulty: int) -> Chore:
    """Lines of server logs counted: of one kind, by address, by hour."""
    hosts = [f"10.0.{rng.randint(0, 9)}.{rng.randint(1, 250)}" for _ in range(7)]
    files = [f"logs/{name}.log" for name in words(rng, difficulty)]
    rows: list[tuple[str, int, str, int]] = []
    start: Files = {}
    for path in files:
        here = [
            (rng.choice(hosts), rng.randint(0, 23), f"/{rng.choice(PEOPLE)}",
             rng.choice((200, 200, 301, 404, 500)))
            for _ in range(40)
        ]  # fmt: skip
        rows += here
        shown = [
            f"{host} [{hour:02}:{rng.randint(0, 59):02}] GET {page} {code} {rng.randint(80, 9000)}"
            for host, hour, page, code in here
        ]
        start[path] = lines(shown)
    setting = "The lines of the files in logs are 'HOST [HOUR:MINUTE] GET PAGE STATUS BYTES'. "
    if difficulty == 1:
        code = rng.choice((200, 301, 404, 500))
        count = sum(row[3] == code for row in rows)
        return Chore(
            f"{setting}How many lines have the status {code}? Write the number to count.txt.",
            start, {**start, "count.txt": text(str(count))},
            f"cat logs/*.log | awk '$5 == {code}' | wc -l > count.txt",
        )  # fmt: skip
    if difficulty == 2:
        seen = Counter(row[0] for row in rows)
        ranked = sorted(seen, key=lambda host: (-seen[host], host))[:3]
        return Chore(
            f"{setting}Write to top.txt the three hosts with the most lines (in all files "
            "together) as 'COUNT HOST', the largest count first; of equal counts the host that "
            "comes first in byte order.",
            start, {**start, "top.txt": lines([f"{seen[h]} {h}" for h in ranked])},
            "cat logs/*.log | awk '{n[$1]++} END {for (h in n) print n[h], h}' "
            "| LC_ALL=C sort -k1,1nr -k2,2 | head -n 3 > top.txt",
        )  # fmt: skip
    hours: dict[int, set[str]] = {}
    for host, hour, _, code in rows:
        if code != 404:
            hours.setdefault(hour, set()).add(host)
    made = lines([f"{hour:02} {len(hours[hour])}" for hour in sorted(hours)])
    return Chore(
        f"{setting}Leaving out lines with the status 404, write to hours.txt for each hour that "
        "occurs a line 'HOUR N': the hour with two digits, and the number of different hosts in "
        "that hour, in all files together; sorted by hour.",
        start, {**start, "hours.txt": made},
        "cat logs/*.log | awk '$5 != 404 {print substr($2, 2, 2), $1}' | sort -u "
        "| awk '{n[$1]++} END {for (h in n) print h, n[h]}' | sort > hours.txt",
    )  # fmt: skip


def replace(rng: Random, difficulty: int) -> Chore:
    """A word replaced in files: of one folder, of one kind, only where another stands."""
    old, new, mark = words(rng, 3)
    where = places(rng, 2 * difficulty - 1, 2)
    start: Files = {}
    goal: Files = {}
    for n, name in enumerate(words(rng, 5 + 3 * difficulty)):
        ending = "conf" if n % 3 else "txt"
        rows = [
            rng.choice((sentence(rng, 3), f"{old}=1", f"use {old} now", f"{old}er"))
            for _ in range(5)
        ]
        rows.append(f"the {old}, and {old}")
        if n % 2:
            rows.insert(0, f"# {mark}")
        path, body = f"{rng.choice(where)}{name}.{ending}", "\n".join(rows) + "\n"
        hit = ending == "conf" and (difficulty < 3 or f"# {mark}" in rows)
        pattern = old if difficulty == 1 else rf"\b{old}\b"
        start[path] = text(body)
        after = re.sub(pattern, new, body) if hit else body
        goal[path] = start[path] if after == body else text(after)
    question, solution = {
        1: (
            f"In every .conf file of this folder replace every {old!r} by {new!r}, also within "
            "longer words.",
            f"sed -i 's/{old}/{new}/g' *.conf",
        ),
        2: (
            f"In every .conf file here and in the folders below replace the word {old!r} by "
            f"{new!r}, but not where it is a part of a longer word (such as {old}er).",
            f"find . -name '*.conf' -exec sed -i 's/\\b{old}\\b/{new}/g' {{}} +",
        ),
        3: (
            f"In every .conf file here and in the folders below that has the line '# {mark}', "
            f"replace the word {old!r} by {new!r}, but not where it is a part of a longer word "
            f"(such as {old}er).",
            f"grep -rlx --include='*.conf' '# {mark}' . | xargs sed -i 's/\\b{old}\\b/{new}/g'",
        ),
    }[difficulty]
    return Chore(f"{question} Leave all other files alone.", start, goal, solution)


def dedupe(rng: Random, difficulty: int) -> Chore:
    """Doubles taken away: of lines, of lists, of files."""
    start: Files = {"readme.txt": text(paragraph(rng))}
    if difficulty == 1:
        pool = words(rng, 12)
        listed = rng.choices(pool, k=30)
        start["list.txt"] = lines(listed)
        return Chore(
            "Write the lines of list.txt to unique.txt, each once, sorted.",
            start, {**start, "unique.txt": lines(sorted(set(listed)))},
            "sort -u list.txt > unique.txt",
        )  # fmt: skip
    if difficulty == 2:
        pool, found = words(rng, 20), set[str]()
        for number in range(4):
            listed = [rng.choice((w, w.upper(), w.title())) for w in rng.choices(pool, k=10)]
            start[f"lists/{number}.txt"] = lines(listed)
            found |= {word.lower() for word in listed}
        return Chore(
            "Gather the lines of all files in lists, in lower case, each once and sorted, in "
            "all.txt.",
            start, {**start, "all.txt": lines(sorted(found))},
            "cat lists/*.txt | tr A-Z a-z | sort -u > all.txt",
        )  # fmt: skip
    bodies = [text(paragraph(rng, 2)) for _ in range(6)]
    paths = [f"{rng.choice(places(rng, 4, 2))}{name}.txt" for name in words(rng, 16)]
    start = {path: rng.choice(bodies) for path in paths}
    if len({item["text"] for item in start.values()}) == len(start):
        start[paths[0]] = start[paths[1]]
    kept: dict[str, str] = {}
    for path in sorted(start):
        kept.setdefault(start[path]["text"], path)
    return Chore(
        "Some files here and in the folders below have the same content. Of each such set keep "
        "only the file whose path comes first in byte order, and delete the others.",
        start, {path: start[path] for path in kept.values()},
        "t=$(mktemp); find . -type f | sed 's|^\\./||' | LC_ALL=C sort | while read -r f; do "
        "s=$(md5sum < \"$f\"); grep -qxF \"$s\" $t && rm \"$f\" || "
        'echo "$s" >> $t; done',
    )  # fmt: skip


def archive(rng: Random, difficulty: int) -> Chore:
    """Files compressed one by one; gathered in a tar; gathered and deleted."""
    names = words(rng, 6 + 2 * difficulty)
    start: Files = {
        f"{'docs' if n % 2 else 'logs'}/{name}.{rng.choice(('txt', 'log'))}": text(paragraph(rng))
        for n, name in enumerate(names)
    }
    start["docs/first.txt"], start["logs/first.log"] = text(sentence(rng)), text(sentence(rng))
    start["logs/second.log"] = text(sentence(rng))
    if difficulty == 1:
        hit = [path for path in start if path.startswith("logs/") and path.endswith(".log")]
        goal = {path: item for path, item in start.items() if path not in hit}
        goal |= {f"{path}.gz": gzip_file(start[path]["text"]) for path in hit}
        return Chore(
            "Compress every .log file of the folder logs with gzip, so that NAME.log.gz takes the "
            "place of NAME.log.",
            start, goal, "gzip logs/*.log",
        )  # fmt: skip
    if difficulty == 2:
        hit = [path for path in start if path.startswith("docs/")]
        inside = {path: start[path]["text"] for path in hit}
        return Chore(
            "Make docs.tar.gz, a tar compressed with gzip that holds all files of the folder docs "
            "under their paths (docs/NAME).",
            start, {**start, "docs.tar.gz": tar_file(inside)}, "tar -czf docs.tar.gz docs",
        )  # fmt: skip
    hit = [path for path in start if path.endswith(".log")]
    goal = {path: item for path, item in start.items() if path not in hit}
    goal["old/logs.tar.gz"] = tar_file({p.rpartition("/")[2]: start[p]["text"] for p in hit})
    return Chore(
        "Gather every .log file of the folders docs and logs in old/logs.tar.gz, a tar compressed "
        "with gzip, in which they stand by their names without folders; then delete these .log "
        "files.",
        start, goal,
        "t=$(mktemp -d); mkdir -p old; find docs logs -name '*.log' -exec mv {} $t/ \\; ; "
        'tar -czf old/logs.tar.gz -C $t $(ls $t)',
    )  # fmt: skip


def extract(rng: Random, difficulty: int) -> Chore:
    """Fields taken out of lines: of accounts, of a text, of records."""
    names = rng.sample(PEOPLE, 12)
    if difficulty == 1:
        users = [
            (name, rng.randint(200, 3000), rng.choice(("sh", "bash", "zsh"))) for name in names
        ]
        start: Files = {
            "accounts.txt": lines([f"{a}:x:{b}:{b}:/home/{a}:/bin/{c}" for a, b, c in users])
        }
        users.sort()
        limit = sorted(user[1] for user in users)[5]
        made = lines([name for name, number, _ in users if number >= limit])
        return Chore(
            "The lines of accounts.txt are NAME:x:UID:GID:HOME:SHELL. Write to names.txt the names "
            f"of those with a UID of at least {limit}, sorted, one a line.",
            start, {**start, "names.txt": made},
            f"awk -F: '$3 >= {limit} {{print $1}}' accounts.txt | sort > names.txt",
        )  # fmt: skip
    if difficulty == 2:
        mails = [f"{name}.{word}@{rng.choice(('mail', 'post'))}.example" for name, word
                 in zip(names, words(rng, 12), strict=True)]  # fmt: skip
        rows = [f"{sentence(rng, 3)} <{rng.choice(mails)}> {sentence(rng, 2)}" for _ in range(20)]
        rows += [sentence(rng, 4) for _ in range(10)]
        rng.shuffle(rows)
        host = rng.choice(("mail", "post"))
        ending = f"@{host}.example"
        hit = {mail for mail in mails if mail.endswith(ending) and any(mail in row for row in rows)}
        start = {"letter.txt": lines(rows)}
        return Chore(
            f"letter.txt has addresses between < and >. Write those that end in {ending} to "
            "addresses.txt, each once, sorted, one a line, without the brackets.",
            start, {**start, "addresses.txt": lines(sorted(hit))},
            f"grep -o '<[^>]*{ending}>' letter.txt | tr -d '<>' | LC_ALL=C sort -u > addresses.txt",
        )  # fmt: skip
    records = [{"name": n, "age": str(rng.randint(20, 60)), "team": rng.choice(("red", "blue"))}
               for n in names]  # fmt: skip
    blocks = []
    for record in records:
        fields = [f"{key}: {value}" for key, value in record.items()]
        rng.shuffle(fields)
        blocks.append("\n".join(fields) + "\n")
    start = {"people.txt": text("\n".join(blocks))}
    ranked = sorted(records, key=lambda r: (-int(r["age"]), r["name"]))
    made = lines(["name,team,age", *(f"{r['name']},{r['team']},{r['age']}" for r in ranked)])
    return Chore(
        "people.txt has records with an empty line between them; their lines are 'name: X', "
        "'age: X' and 'team: X' in any order. Make people.csv with the header name,team,age and a "
        "row for each record, the oldest first, of equal age by name.",
        start, {**start, "people.csv": made},
        "(echo name,team,age; awk -F': ' -v RS= -v FS='\\n' '{for (i = 1; i <= NF; i++) "
        "{split($i, p, \": \"); v[p[1]] = p[2]} print v[\"name\"] \",\" v[\"team\"] \",\" "
        "v[\"age\"]}' people.txt | sort -t, -k3,3nr -k1,1) > people.csv",
    )  # fmt: skip
