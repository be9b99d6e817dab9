"""Tasks that move, rename, make, delete and mark files."""

from __future__ import annotations

from random import Random

from rl_envs.text.terminal_tasks.chore import Chore, Files, folder, lines, link, text
from rl_envs.text.terminal_tasks.names import KINDS, PEOPLE, paragraph, places, sentence, words


def rename(rng: Random, difficulty: int) -> Chore:
    """Names changed by a rule: an ending, the case, the parts of a name."""
    if difficulty == 3:
        return _rename_parts(rng)
    where = places(rng, 1 if difficulty == 1 else 4, 2)
    names = words(rng, 6 + 3 * difficulty)
    old, new = rng.sample(("jpeg", "jpg", "text", "htm", "page", "note"), 2)
    start: Files = {"readme.md": text(paragraph(rng))}
    goal = dict(start)
    for n, name in enumerate(names):
        item = text(paragraph(rng, 2))
        above = rng.choice(where)
        ending = old if n % 3 else "csv"
        shown = name.upper() if difficulty == 2 and n % 2 else name
        start[f"{above}{shown}.{ending}"] = item
        if ending == old:
            goal[f"{above}{name}.{new}"] = item
        else:
            goal[f"{above}{shown}.{ending}"] = item
    if difficulty == 1:
        return Chore(
            f"Rename every file whose name ends in .{old} so that it ends in .{new} instead.",
            start, goal,
            f'for f in *.{old}; do mv "$f" "${{f%.{old}}}.{new}"; done',
        )  # fmt: skip
    return Chore(
        f"In this folder and all below it, rename every file whose name ends in .{old}: what is "
        f"before the dot becomes lower case, the ending becomes .{new}, and the folder stays.",
        start, goal,
        f"find . -name '*.{old}' | while read -r f; do b=$(basename \"$f\" .{old}); "
        f'mv "$f" "$(dirname "$f")/${{b,,}}.{new}"; done',
    )  # fmt: skip


def _rename_parts(rng: Random) -> Chore:
    start: Files = {"index.txt": text(paragraph(rng))}
    goal = dict(start)
    topics = words(rng, 3)
    for _ in range(14):
        topic, year, month = rng.choice(topics), rng.randint(2015, 2024), rng.randint(1, 12)
        day, item = rng.randint(1, 28), text(paragraph(rng, 2))
        start[f"{topic}_{year}-{month:02}-{day:02}.txt"] = item
        goal[f"{year}/{topic}/{month:02}-{day:02}.txt"] = item
    return Chore(
        "The files named TOPIC_YEAR-MONTH-DAY.txt are to be sorted into folders: each becomes "
        "YEAR/TOPIC/MONTH-DAY.txt.",
        start, goal,
        'for f in *_*.txt; do b=${f%.txt}; t=${b%%_*}; d=${b#*_}; mkdir -p "${d%%-*}/$t"; '
        'mv "$f" "${d%%-*}/$t/${d#*-}.txt"; done',
    )  # fmt: skip


def sort_files(rng: Random, difficulty: int) -> Chore:
    """Files moved into folders: by ending, by what their first line says, by length."""
    start: Files = {}
    goal: Files = {}
    names = words(rng, 6 + 4 * difficulty)
    if difficulty == 1:
        kinds = rng.sample(KINDS, 3)
        for name in names:
            kind, item = rng.choice(kinds), text(paragraph(rng, 2))
            start[f"inbox/{name}.{kind}"], goal[f"sorted/{kind}/{name}.{kind}"] = item, item
        return Chore(
            "Move every file of the folder inbox to sorted/ENDING/, where ENDING is what follows "
            f"the dot in its name ({', '.join(sorted(kinds))}); the names stay.",
            start, goal,
            'for f in inbox/*; do mkdir -p "sorted/${f##*.}"; mv "$f" "sorted/${f##*.}/"; done',
        )  # fmt: skip
    if difficulty == 2:
        owners = rng.sample(PEOPLE, 3)
        for n, name in enumerate(names):
            owner = rng.choice(owners)
            head = f"owner: {owner}\n" if n else ""
            item = text(head + paragraph(rng, 2))
            start[f"{name}.txt"], goal[f"{owner}/{name}.txt" if n else f"{name}.txt"] = item, item
        return Chore(
            "The first line of most .txt files here is 'owner: NAME'. Move each such file into the "
            "folder NAME, which is to be made; leave those without that first line where they are.",
            start, goal,
            "for f in *.txt; do o=$(sed -n '1s/^owner: //p' \"$f\"); if [ -n \"$o\" ]; then "
            'mkdir -p "$o"; mv "$f" "$o/"; fi; done',
        )  # fmt: skip
    limit, where = rng.randint(8, 14), places(rng, 5, 3)
    sizes = [limit, limit + 1, *(rng.randint(2, 24) for _ in names[2:])]
    for name, size in zip(names, sizes, strict=True):
        item, path = (
            lines([sentence(rng, 3) for _ in range(size)]),
            f"{rng.choice(where)}{name}.log",
        )
        start[path] = item
        goal[f"long/{name}.log" if size > limit else path] = item
    return Chore(
        f"Move every .log file with more than {limit} lines, in this folder or below it, into a "
        "new folder long here at the top; leave the others where they are.",
        start, goal,
        f"t=$(mktemp -d); find . -name '*.log' | while read -r f; do "
        f'if [ $(wc -l < "$f") -gt {limit} ]; then mv "$f" $t/; fi; done; mkdir long; mv $t/* long',
    )  # fmt: skip


def permissions(rng: Random, difficulty: int) -> Chore:
    """Modes by name, by content, by a first line."""
    start: Files = {}
    goal: Files = {}
    where = places(rng, 1 + 2 * difficulty, 2)
    modes = (0o644, 0o664, 0o600, 0o640)
    for n, name in enumerate(words(rng, 6 + 3 * difficulty)):
        script, secret = n % 3 != 0, n % 4 == 1
        shebang = script and n % 2 == 0
        body = ("#!/bin/sh\n" if shebang else "") + paragraph(rng, 2)
        body += "password: hidden\n" if secret else ""
        path, mode = f"{rng.choice(where)}{name}.{'sh' if script else 'txt'}", rng.choice(modes)
        wanted = mode
        if difficulty == 1 and script:
            wanted = 0o755
        elif difficulty == 2 and secret:
            wanted = 0o400
        elif difficulty == 3 and script:
            wanted = 0o750 if shebang else 0o640
        start[path], goal[path] = text(body, mode), text(body, wanted)
    question, solution = {
        1: (
            "Set the mode of every .sh file here and in the folders below to 755.",
            "find . -name '*.sh' -exec chmod 755 {} +",
        ),
        2: (
            "Set the mode of every file here and in the folders below that contains a line "
            "beginning with 'password:' to 400.",
            "grep -rl '^password:' . | xargs chmod 400",
        ),
        3: (
            "Here and in the folders below: each .sh file whose first line begins with #! gets the "
            "mode 750, every other .sh file 640.",
            "find . -name '*.sh' | while read -r f; do case $(head -n 1 \"$f\") in "
            '\'#!\'*) chmod 750 "$f";; *) chmod 640 "$f";; esac; done',
        ),
    }[difficulty]
    return Chore(f"{question} Other files keep theirs.", start, goal, solution)


def cleanup(rng: Random, difficulty: int) -> Chore:
    """Files deleted: by ending, if empty, if not on a list."""
    start: Files = {}
    where = places(rng, 2 + difficulty, 2)
    listed = words(rng, 8 + 4 * difficulty)
    if difficulty < 3:
        for n, name in enumerate(listed):
            junk = n % 3 == 0
            ending = rng.choice(("tmp", "bak")) if junk and difficulty == 1 else "txt"
            content = "" if junk and difficulty == 2 else paragraph(rng, 2)
            start[f"{rng.choice(where)}{name}.{ending}"] = text(content)
        start[f"keep_{listed[0]}.tmp.txt"] = text(paragraph(rng, 1))
        junk_of = (
            (lambda path, item: path.endswith((".tmp", ".bak")))
            if difficulty == 1
            else (lambda path, item: item["text"] == "")
        )
        goal = {path: item for path, item in start.items() if not junk_of(path, item)}
        if difficulty == 1:
            return Chore(
                "Delete every file whose name ends in .tmp or .bak, here and in the folders below.",
                start, goal, "find . -type f \\( -name '*.tmp' -o -name '*.bak' \\) -delete",
            )  # fmt: skip
        empty = [f"{name}_d" for name in words(rng, 3)]
        start |= {path: folder() for path in empty}
        above = {path[:n] for path in start for n, letter in enumerate(path) if letter == "/"}
        for place in sorted(above):  # those that become empty
            if not any(path.startswith(f"{place}/") for path in goal):
                start[place] = folder()
        return Chore(
            "Delete all empty files here and in the folders below, then every folder that is empty "
            "or has become empty.",
            start, goal, "find . -type f -empty -delete; find . -mindepth 1 -type d -empty -delete",
        )  # fmt: skip
    paths = [f"store/{name}.{rng.choice(KINDS)}" for name in listed]
    start |= {path: text(paragraph(rng, 1)) for path in paths}
    kept = rng.sample(paths, 7)
    start["keep.txt"] = lines([path.removeprefix("store/") for path in kept])
    goal = {path: start[path] for path in (*kept, "keep.txt")}
    return Chore(
        "keep.txt lists names of files, one a line. Delete every file of the folder store that is "
        "not on the list.",
        start, goal,
        'for f in store/*; do grep -qxF "${f#store/}" keep.txt || rm "$f"; done',
    )  # fmt: skip


def build(rng: Random, difficulty: int) -> Chore:
    """A tree of folders and files made from words, from a list, from a table."""
    names = words(rng, 4 + 3 * difficulty)
    start: Files = {"notes.md": text(paragraph(rng))}
    if difficulty == 1:
        top, *rest = names
        made: Files = {f"{top}/{name}": folder() for name in rest[:4]}
        body = sentence(rng, 4)
        made[f"{top}/{rest[0]}/{rest[5]}.txt"] = text(body + "\n")
        return Chore(
            f"Make a folder {top} with the folders {', '.join(rest[:4])} in it, and in "
            f"{top}/{rest[0]} a file {rest[5]}.txt with the single line '{body}'.",
            start, {**start, **made},
            f"mkdir -p {top}/{{{','.join(rest[:4])}}}; echo '{body}' > "
            f"{top}/{rest[0]}/{rest[5]}.txt",
        )  # fmt: skip
    if difficulty == 2:
        where = places(rng, 6, 3)[1:]
        paths = [f"{above}{name}.txt" for above, name in zip(where, names, strict=False)]
        start["layout.txt"] = lines(paths)
        return Chore(
            "Make every file that layout.txt lists (one path a line), with its folders. Each has "
            "one line: its own name without the folders.",
            start, {**start, **{p: lines([p.rpartition("/")[2]]) for p in paths}},
            'while read -r p; do mkdir -p "$(dirname "$p")"; basename "$p" > "$p"; '
            "done < layout.txt",
        )  # fmt: skip
    rows = [(name, rng.choice(PEOPLE), rng.randint(100, 999)) for name in names]
    start["projects.csv"] = lines(["project,lead,budget", *(f"{a},{b},{c}" for a, b, c in rows)])
    made = {f"projects/{a}/info.txt": lines([f"lead={b}", f"budget={c}"]) for a, b, c in rows}
    return Chore(
        "For each row of projects.csv make projects/PROJECT/info.txt with two lines: lead=LEAD and "
        "budget=BUDGET.",
        start, {**start, **made},
        "tail -n +2 projects.csv | while IFS=, read -r p l b; do mkdir -p projects/$p; "
        "printf 'lead=%s\\nbudget=%s\\n' $l $b > projects/$p/info.txt; done",
    )  # fmt: skip


def links(rng: Random, difficulty: int) -> Chore:
    """Symbolic links: to the newest version; for each file; broken ones taken away."""
    start: Files = {}
    if difficulty == 1:
        versions = sorted(
            {(rng.randint(1, 3), rng.randint(8, 12), rng.randint(0, 30)) for _ in range(9)}
        )
        names = [".".join(map(str, version)) for version in versions]
        start = {f"releases/{name}/version.txt": lines([name]) for name in names}
        start["current"] = link(f"releases/{names[0]}")
        return Chore(
            "current is a symbolic link to the folder of an old version. Make it point to the "
            "highest version in releases instead (numbers are compared part by part: 1.10.0 is "
            "higher than 1.9.9), as a relative link of the form releases/VERSION.",
            start, {**start, "current": link(f"releases/{names[-1]}")},
            "ln -sfn releases/$(ls releases | sort -V | tail -n 1) current",
        )  # fmt: skip
    names = words(rng, 6 + 3 * difficulty)
    files = {f"data/{name}.{rng.choice(('csv', 'txt'))}": text(paragraph(rng, 1)) for name in names}
    if difficulty == 2:
        chosen = [path for path in files if path.endswith(".csv")] or [next(iter(files))]
        start = {**files, f"data/{names[0]}_x.csv": text(paragraph(rng, 1))}
        chosen = [path for path in start if path.endswith(".csv")]
        made = {f"tables/{p.removeprefix('data/')}": link(f"../{p}") for p in chosen}
        return Chore(
            "Make a folder tables with a symbolic link for each .csv file of data: of the same "
            "name, and relative: ../data/NAME.",
            start, {**start, **made},
            "mkdir tables; cd tables; for f in ../data/*.csv; do ln -s $f .; done; cd ..",
        )  # fmt: skip
    start = dict(files)
    for n, name in enumerate(words(rng, 8)):
        there = rng.choice(list(files)).removeprefix("data/")
        start[f"links/{name}"] = link(f"../data/{there}" if n % 2 else f"../data/{name}.gone")
    goal = {p: i for p, i in start.items() if not i.get("target", "").endswith(".gone")}
    return Chore(
        "Delete the symbolic links in the folder links that point to nothing; keep the others.",
        start, goal, "find links -xtype l -delete",
    )  # fmt: skip
